"""Building: futu index, futu builds, futu jobs."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from futu.client import Client

_POLL_S = 0.25
_WATCH_BEGINS_S = 5.0


@click.command()
@click.argument("dataset")
@click.option("--retry-failed", is_flag=True, help="Try again what failed or was put aside.")
@click.option(
    "--questions",
    metavar="LIST",
    help="What the dataset answers from now on: similar, or similar,copy.",
)
@click.option(
    "--confirm-missing",
    is_flag=True,
    help="Forget files that are gone, however many they are.",
)
@click.option("--watch", is_flag=True, help="From now on index it whenever a file in it changes.")
@click.option("--unwatch", is_flag=True, help="Watch it no longer.")
@click.option("--cancel", is_flag=True, help="End the build; the next one goes on from there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def index(
    server: str | None,
    dataset: str,
    retry_failed: bool,
    questions: str | None,
    confirm_missing: bool,
    watch: bool,
    unwatch: bool,
    cancel: bool,
    as_json: bool,
) -> None:
    """Index DATASET: the name of a dataset, or a folder inside the image roots.

    Only new and changed files cost time. Ctrl-C asks whether the build is to go on without you.

    With --watch the controller goes on watching the folder, also after it was started again.
    --unwatch ends that. When more files than FUTU_MAX_MISSING_SHARE allows (20 %) are gone, none is
    forgotten, since a disk may not be mounted; --confirm-missing says that they are gone for good.
    """
    if watch and unwatch:
        raise click.UsageError("--watch and --unwatch exclude each other: give one of them.")
    with Client(server) as client:
        name = _dataset_name(client, dataset)
        console = Console(stderr=True)
        if cancel:
            found = client.cancel_build(name)
            console.print("Cancelling." if found else f"No build of {name} is under way.")
            return
        if unwatch:
            found = client.unwatch(name)
            console.print(f"{name} is {'no longer' if found else 'not'} watched.", markup=False)
            return
        asked = [q.strip() for q in questions.split(",")] if questions is not None else None
        client.build_index(
            [name], questions=asked, retry_failed=retry_failed, confirm_missing=confirm_missing
        )
        if watch:
            client.watch(name)
        try:
            progress = _follow(client, name, console)
        except KeyboardInterrupt:
            if not _stop_asked():
                console.print(f"The build of {name} goes on: futu index {name} shows it again.")
                return
            client.cancel_build(name)
            progress = _follow(client, name, console)
        troubled = progress.failed + progress.quarantined
        failures = client.failures(name) if troubled else []
        if as_json:
            facts = asdict(progress) | {"failures": [asdict(f) for f in failures]}
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            for failure in failures:
                console.print(f"failed: {failure.path}: {failure.error}", markup=False, style="red")
            if troubled > len(failures):
                console.print(f"… and {troubled - len(failures)} more failed.")
            console.print(progress.message, markup=False, soft_wrap=True)
            if watch:
                console.print(_how_watched(client, name), markup=False, soft_wrap=True)
        if progress.status != "done":
            sys.exit(1)


def _how_watched(client: Client, name: str) -> str:
    """What --watch has brought about."""
    deadline = time.monotonic() + _WATCH_BEGINS_S
    while True:
        found = next(w for w in client.watched() if w["dataset"] == name)
        if found["how"] != "starting" or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    reason = f" {found['message']}" if found["message"] else ""
    return f"{name} is watched ({found['how']}).{reason} futu index {name} --unwatch ends it."


def _stop_asked() -> bool:
    """After Ctrl-C: whether the build is to be cancelled; a script is not asked."""
    if not sys.stdin.isatty():
        return False
    try:
        return click.confirm("Cancel the build?", default=False, err=True)
    except click.Abort:
        return False


@click.command()
@click.option("--limit", default=20, show_default=True, help="How many (1-1000).")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def builds(server: str | None, limit: int, as_json: bool) -> None:
    """List the builds of all datasets, newest first."""
    with Client(server) as client:
        found = client.builds(limit)
    if as_json:
        click.echo(json.dumps([asdict(b) for b in found], ensure_ascii=False, indent=1))
        return
    table = Table("build", "dataset", "state", "images", "failed", "began", "message", box=None)
    for b in found:
        counts = (f"{b.current}/{b.total}", str(b.failed + b.quarantined))
        began = (b.started_at or "")[:19].replace("T", " ")
        table.add_row(str(b.build_id), b.dataset, b.state, *counts, began, b.message)
    Console().print(table)


def _dataset_name(client: Client, dataset: str) -> str:
    """A name as it is; a folder is registered first."""
    known = {d.name for d in client.datasets()}
    if dataset in known or not Path(dataset).is_dir():
        return dataset
    return client.register(Path(dataset).resolve()).name


def _follow(client: Client, name: str, console: Console) -> Any:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[note]}", markup=False),
    )
    started, first = time.monotonic(), -1
    with Progress(*columns, console=console) as bar:
        task: TaskID = bar.add_task(name, total=0, rate=0.0, failed=0, note="")
        while True:
            state = client.progress(name)
            if first < 0 and state.total:
                started, first = time.monotonic(), state.current
            rate = (state.current - first) / max(time.monotonic() - started, 0.001)
            note = state.message if state.message.startswith("Waiting") else ""
            bar.update(
                task,
                completed=state.current,
                total=state.total,
                rate=rate if first >= 0 else 0.0,
                failed=state.failed,
                note=note,
            )
            if state.status in ("done", "error"):
                return state
            time.sleep(_POLL_S)


@click.group(invoke_without_command=True)
@click.option("--limit", default=20, show_default=True, help="How many of each (1-1000).")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def jobs(context: click.Context, limit: int, as_json: bool) -> None:
    """List the jobs: live (a worker has them), waiting, and dead (pictures put aside)."""
    if context.invoked_subcommand is not None:
        return
    with Client(context.obj) as client:
        found = client.jobs(limit)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    counts = found["counts"]
    click.echo(f"{counts['live']} live, {counts['waiting']} waiting, {counts['dead']} dead")
    for job in found["live"]:
        click.echo(
            f"  live     {job['job_id']}  {job['stream']}  {job['images']} images  "
            f"{job['worker']}  attempt {job['deliveries']}"
        )
    for job in found["waiting"]:
        click.echo(f"  waiting  {job['job_id']}  {job['stream']}  {job['images']} images")
    for dead in found["dead"]:
        click.echo(f"  dead     {dead['id']}  {dead['image']}: {dead['reason']}")


@jobs.command()
@click.argument("ids", nargs=-1)
@click.pass_obj
def retry(server: str | None, ids: tuple[str, ...]) -> None:
    """Try dead jobs again: those with these IDS, or all."""
    with Client(server) as client:
        click.echo(f"{client.retry_jobs(ids or None)} put back; their datasets are being built.")


@jobs.command("clear-stale-locks")
@click.pass_obj
def clear_stale_locks(server: str | None) -> None:
    """Remove locks whose owner no longer has the job. Nothing else is touched."""
    with Client(server) as client:
        click.echo(f"{client.clear_stale_locks()} removed.")
