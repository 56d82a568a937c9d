"""Duplicates: futu duplicates."""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn

from futu.cli.group_lists import as_csv, as_lines, as_table, name_of
from futu.cli.trash import apply_plan, read_plan, split_rules, undo_operation, write_plan
from futu.client import Client
from futu.client_duplicates import GROUP_STATES, RUNNING, DuplicateGroup, DuplicateRun
from futu.errors import FutuError, InvalidRequestError, JobFailedError

_FOUND, _ERROR = 1, 2
_LOOK_S = 0.2


def errors_are_two(command: Callable[..., Any]) -> Callable[..., Any]:
    """Exit code 1 says that duplicates were found; so an error is 2."""

    @functools.wraps(command)
    def guarded(*given: Any, **named: Any) -> None:
        try:
            command(*given, **named)
        except FutuError as error:
            for line in error.message.splitlines():
                click.echo(f"futu: {line}", err=True)
            sys.exit(_ERROR)

    return guarded


@click.command()
@click.argument("datasets", nargs=-1, metavar="DATASET...")
@click.option(
    "--preset",
    type=click.Choice(["strict", "normal", "loose"]),
    help="strict: nothing edited much; loose: turned by 25 degrees, too; or as futu calibrate "
    "found.  [default: normal]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(50, 100),
    help="The least similarity of a copy to the picture that is kept, instead of a preset.",
)
@click.option(
    "--state", default="open", show_default=True, help="open, resolved, dismissed, or all."
)
@click.option("--tier", help="Only exact (same file), pixels (same pixels), near; with commas.")
@click.option("--run", "run_id", type=int, help="Show this run again instead of looking anew.")
@click.option("--explain", is_flag=True, help="Say what was done to each copy; takes longer.")
@click.option("--json", "as_json", is_flag=True, help="Print groups as JSON, one a line.")
@click.option("--csv", "csv_", is_flag=True, help="Print a line for each image as CSV.")
@click.option("--dismiss", metavar="GROUP", help="GROUP (as 3-17) is none: not shown again.")
@click.option("--resolve", metavar="GROUP", help="GROUP is dealt with.")
@click.option("--reopen", metavar="GROUP", help="Take back what was decided about GROUP.")
@click.option("--cancel", is_flag=True, help="End the runs under way.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file what would be kept and moved (CSV, or JSON by its name).",
)
@click.option("--keep", metavar="RULES", help="For --plan: resolution,size,oldest,path reordered.")
@click.option("--force", is_flag=True, help="For --plan: replace the file if it is there.")
@click.option(
    "--apply",
    "apply_",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Carry out a plan: what it moves goes to the trash.",
)
@click.option("--undo", is_flag=False, flag_value="", metavar="[ID]", help="Undo an operation.")
@click.pass_obj
@errors_are_two
def duplicates(
    server: str | None,
    datasets: tuple[str, ...],
    preset: str | None,
    threshold: float | None,
    state: str,
    tier: str | None,
    run_id: int | None,
    explain: bool,
    as_json: bool,
    csv_: bool,
    dismiss: str | None,
    resolve: str | None,
    reopen: str | None,
    cancel: bool,
    plan: Path | None,
    keep: str | None,
    force: bool,
    apply_: Path | None,
    undo: str | None,
) -> None:
    """Find copies among the pictures of DATASETs; without any, of all datasets.

    Groups have a keeper, marked *, and copies of it. Nothing is moved or changed. Exit code: 0 no
    group, 1 some, 2 an error.

    \b
    futu duplicates holiday                          look, and show what there is
    futu duplicates holiday --dismiss 3-17           keep both, and do not ask again
    futu duplicates holiday --plan plan.csv          what would be moved; edit it
    futu duplicates --apply plan.csv                 move it to the trash
    futu duplicates --undo                           and home again
    """  # noqa: D301 - click wants the character itself
    if preset is not None and threshold is not None:
        raise click.UsageError("--preset and --threshold exclude each other: give one of them.")
    with Client(server) as client:
        if apply_ is not None:
            apply_plan(client, read_plan(apply_))
            return
        if undo is not None:
            undo_operation(client, undo or None)
            return
        if cancel:
            _cancel(client)
            return
        if dismiss or resolve or reopen:
            _decide(client, dismiss, "dismissed")
            _decide(client, resolve, "resolved")
            _decide(client, reopen, "open")
            return
        if run_id is None:
            run = client.find_duplicates(datasets, preset=preset, threshold=threshold)
            run = _follow(client, run)
        else:
            run = _follow(client, client.duplicate_run(run_id))
        if plan is not None:
            write_plan(client, plan, run.id, split_rules(keep), force=force)
            return
        states = GROUP_STATES if state == "all" else tuple(s.strip() for s in state.split(","))
        tiers = () if tier is None else tuple(t.strip() for t in tier.split(","))
        groups: Iterable[DuplicateGroup] = client.all_duplicate_groups(
            run.id, states=states, tiers=tiers
        )
        if explain:
            groups = (client.duplicate_group(g.run, g.number) for g in groups)
        show = as_lines if as_json else as_csv if csv_ else as_table
        shown = show(groups)
        if not as_json and not csv_:
            _summary(run, shown)
    if shown:
        sys.exit(_FOUND)


def _follow(client: Client, run: DuplicateRun) -> DuplicateRun:
    """A run at its end, with a bar on the way; Ctrl-C leaves it going on."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"))
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("waiting", total=None, counts="")
        while run.state == RUNNING:
            bar.update(
                task,
                description=run.stage or "waiting",
                completed=run.current,
                total=run.total or None,
                counts=f"{run.current}/{run.total}" if run.total else "",
            )
            time.sleep(_LOOK_S)
            run = client.duplicate_run(run.id)
    if run.state != "done":
        raise JobFailedError(f"Run {run.id}: {run.message or run.state}")
    return run


def _cancel(client: Client) -> None:
    running = [run for run in client.duplicate_runs() if run.state == RUNNING]
    for run in running:
        client.cancel_duplicates(run.id)
        click.echo(f"Run {run.id} is cancelled.")
    if not running:
        click.echo("No run is under way.")


def _decide(client: Client, group: str | None, state: str) -> None:
    if group is None:
        return
    match = re.fullmatch(r"(\d+)-(\d+)", group.strip())
    if match is None:
        raise InvalidRequestError(
            f"{group!r} is no group; give run and number as they are shown, for example 3-17."
        )
    found = client.decide(int(match[1]), int(match[2]), state)
    click.echo(f"{name_of(found)} is {found.state}.")


def _summary(run: DuplicateRun, shown: int) -> None:
    click.echo(
        f"Run {run.id}: {run.images} images, {shown} groups shown; in open ones {run.duplicates} "
        f"files beside those that are kept, {decimal(run.freed_bytes)}."
    )
    if run.message:
        click.echo(run.message, err=True)
