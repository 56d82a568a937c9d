"""The trash: futu trash, and what futu duplicates does with plans."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Column, Table

from futu.client import Client
from futu.client_trash import UNDER_WAY, Operation, Plan, TrashedFile
from futu.errors import InvalidRequestError, TrashError, UnknownOperationError
from futu.trash.plan import PlanRow, from_text, to_csv

RULES = ("resolution", "size", "oldest", "path")
_LOOK_S = 0.3
_PAGE = 1000


@click.group()
def trash() -> None:
    """What was moved to the trash, and how it comes home.

    Duplicates are never deleted: they lie in .futu-trash at the top of the image folder on their
    disk, as they lay before. To free the space, delete an operation's folder there yourself.
    """


@trash.command("list")
@click.argument("operation", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def list_(server: str | None, operation: str | None, as_json: bool) -> None:
    """Show the operations, newest first, or the files of OPERATION."""
    with Client(server) as client:
        if operation is not None:
            _show_files(_all_files(client, operation), as_json)
            return
        found = client.operations()
    if as_json:
        click.echo(json.dumps([asdict(o) for o in found], ensure_ascii=False, indent=1))
        return
    table = Table(Column("operation", no_wrap=True, min_width=23), box=None)
    for title in ("when", "state", "images", "in the trash", "bytes"):
        table.add_column(title)
    for o in found:
        when = (o.created_at or "").replace("T", " ")[:16]
        size = decimal(o.bytes)
        table.add_row(o.id, when, o.state, str(o.images), f"{o.left} files", size)
    Console().print(table)
    for o in found:
        if o.error and o.state not in ("undone", "applied"):
            click.echo(f"{o.id}: {o.error}")


@trash.command()
@click.argument("operation", required=False)
@click.pass_obj
def undo(server: str | None, operation: str | None) -> None:
    """Bring everything of OPERATION home; without OPERATION, of the newest in the trash.

    A place that was taken meanwhile is left as it is; that picture stays in the trash and is named.
    """
    with Client(server) as client:
        undo_operation(client, operation)


@trash.command()
@click.argument("operation")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.pass_obj
def restore(server: str | None, operation: str, images: tuple[str, ...]) -> None:
    """Bring some IMAGEs of OPERATION home: paths as 'futu trash list OPERATION' shows, or ids."""
    with Client(server) as client:
        files = _all_files(client, operation)
        ids: list[int] = []
        for wanted in images:
            found = [f for f in files if f.path == wanted or wanted in map(str, f.image_ids)]
            chosen = [image_id for file in found for image_id in file.image_ids]
            if not chosen:
                raise InvalidRequestError(
                    f"{wanted} is no image of operation {operation}; 'futu trash list {operation}' "
                    "shows them."
                )
            ids += chosen
        _report(_await(client, client.undo(operation, ids)))


@trash.command()
@click.argument("run_id", type=int, metavar="RUN")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--keep", metavar="RULES", help=f"What is kept: {', '.join(RULES)}, in your order.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.pass_obj
def plan(server: str | None, run_id: int, file: Path, keep: str | None, force: bool) -> None:
    """Write what would be done with the open groups of the duplicates run RUN to FILE.

    FILE is CSV, or JSON by its name. Nothing moves. Edit the column action (keep, move), then carry
    it out with 'futu trash apply FILE'.
    """
    with Client(server) as client:
        write_plan(client, file, run_id, split_rules(keep), force=force)


@trash.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_obj
def apply(server: str | None, file: Path) -> None:
    """Carry out the plan FILE: what it says to move goes to the trash, all of it or nothing."""
    with Client(server) as client:
        apply_plan(client, read_plan(file))


def split_rules(text: str | None) -> list[str] | None:
    """Rules with commas between them."""
    return None if text is None else [rule.strip() for rule in text.split(",") if rule.strip()]


def write_plan(
    client: Client, file: Path, run_id: int, keep: Sequence[str] | None, *, force: bool
) -> Plan:
    """Write what would be done with the open groups of a run to a file: JSON, or CSV by its name.

    Raises:
        InvalidRequestError: the file is there already.
    """
    if file.exists() and not force:
        raise InvalidRequestError(f"{file} is there already; choose another name, or give --force.")
    plan = client.plan(run_id=run_id, keep=keep)
    if file.suffix.lower() == ".json":
        text = json.dumps(asdict(plan), ensure_ascii=False, indent=1) + "\n"
    else:
        text = to_csv(plan.rows)
    file.write_text(text, "utf-8")
    for sentence in plan.skipped:
        click.echo(sentence, err=True)
    click.echo(f"{file}: {_would(plan)}")
    return plan


def read_plan(file: Path) -> list[PlanRow]:
    """A plan from a file.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return from_text(file.read_text("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidRequestError(
            f"{file} is not UTF-8; save it as UTF-8 (in Excel: CSV UTF-8)."
        ) from None


def apply_plan(client: Client, rows: Sequence[PlanRow]) -> Operation:
    """Carry out a plan, with a bar; says how it is undone."""
    operation = _await(client, client.apply(rows))
    click.echo(
        f"{operation.images} images ({decimal(operation.bytes)}) are in the trash "
        f"{operation.trash}.\nTo take it back: futu trash undo {operation.id}"
    )
    return operation


def undo_operation(client: Client, operation: str | None) -> None:
    """Undo an operation, or the newest one that has anything in the trash.

    Raises:
        UnknownOperationError: there is none.
        TrashError: something could not come home.
    """
    if operation is None:
        newest = next((o for o in client.operations(limit=1000) if o.left), None)
        if newest is None:
            raise UnknownOperationError("There is nothing in the trash to be undone.")
        operation = newest.id
    _report(_await(client, client.undo(operation)))


def _report(operation: Operation) -> None:
    if operation.state in ("incomplete", "interrupted"):
        raise TrashError(f"{operation.left} files are still in the trash. {operation.error}")
    home = operation.files - operation.left
    click.echo(f"{operation.id}: {operation.state}; {home} of {operation.files} files are home.")


def _would(plan: Plan) -> str:
    return (
        f"{plan.images} images of {plan.groups} groups would move to the trash, with "
        f"{plan.sidecars} sidecar files; {decimal(plan.freed_bytes)} are freed when it is emptied."
    )


def _await(client: Client, operation: Operation) -> Operation:
    """An operation at its end.

    Raises:
        TrashError: it failed.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(operation.state, total=None)
        while operation.state in UNDER_WAY:
            bar.update(
                task,
                description=operation.state,
                completed=operation.current,
                total=operation.total,
            )
            time.sleep(_LOOK_S)
            operation = client.operation(operation.id)
    if operation.state in ("refused", "rolled_back"):
        raise TrashError(operation.error)
    return operation


def _all_files(client: Client, operation: str) -> list[TrashedFile]:
    found: list[TrashedFile] = []
    while page := client.operation_files(operation, len(found), _PAGE):
        found += page
        if len(page) < _PAGE:
            break
    return found


def _show_files(files: Sequence[TrashedFile], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(f) for f in files], ensure_ascii=False, indent=1))
        return
    table = Table("image", Column("path", overflow="fold"), "bytes", "", box=None)
    for file in files:
        ids = ", ".join(map(str, file.image_ids)) or "sidecar"
        where = "in the trash" if file.in_trash else "not in the trash"
        table.add_row(ids, file.path, decimal(file.size), where)
    Console().print(table)
