"""The command line: futu (or python -m futu), and run.py's controller | compute | both."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from futu import __version__
from futu.client import Client
from futu.errors import FutuError, InvalidRequestError
from futu.launch import launch, server_options

_POLL_S = 0.25
_EXIT_SETTINGS = 2
_MODES = ("controller", "compute", "both")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--server", help="The controller's URL.  [default: FUTU_SERVER, http://127.0.0.1:19198]"
)
@click.pass_context
def cli(context: click.Context, server: str | None) -> None:
    """Futu (浮图): which of my pictures look like this one?

    \b
    First search:
      futu both                     start everything on this machine
      futu index holiday            index the folder datasets/holiday
      futu search photo.jpg         its neighbours
    """  # noqa: D301 - click wants the character itself
    context.obj = server


@cli.command()
@server_options
def serve(**given: Any) -> None:
    """Run the controller: REST API, catalogue, index."""
    launch("controller", given)


@cli.command()
@server_options
def compute(**given: Any) -> None:
    """Run a compute server."""
    launch("compute", given)


@cli.command()
@server_options
def both(**given: Any) -> None:
    """Run controller and compute server, and Redis when none is configured."""
    launch("both", given)


@cli.command()
@click.argument("dataset")
@click.option("--retry-failed", is_flag=True, help="Try again what failed or was put aside.")
@click.option("--cancel", is_flag=True, help="End the build; the next one goes on from there.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def index(
    server: str | None, dataset: str, retry_failed: bool, cancel: bool, as_json: bool
) -> None:
    """Index DATASET: the name of a dataset, or a folder inside the image roots.

    Only new and changed files cost time. Ctrl-C asks whether the build is to go on without you.
    """
    with Client(server) as client:
        name = _dataset_name(client, dataset)
        console = Console(stderr=True)
        if cancel:
            found = client.cancel_build(name)
            console.print("Cancelling." if found else f"No build of {name} is under way.")
            return
        client.build_index([name], retry_failed=retry_failed)
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
            console.print(progress.message, markup=False)
        if progress.status != "done":
            sys.exit(1)


def _stop_asked() -> bool:
    """After Ctrl-C: whether the build is to be cancelled; a script is not asked."""
    if not sys.stdin.isatty():
        return False
    try:
        return click.confirm("Cancel the build?", default=False, err=True)
    except click.Abort:
        return False


@cli.command()
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


@cli.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dataset", "datasets_", multiple=True, help="Only this dataset; repeatable.")
@click.option("--top-k", default=10, show_default=True, help="How many neighbours (1-1000).")
@click.option("--crop", metavar="X,Y,W,H", help="Search with this part of the picture, in pixels.")
@click.option("--min-similarity", default=0.0, help="Leave out what is less similar (0-100).")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_obj
def search(
    server: str | None,
    image: Path,
    datasets_: tuple[str, ...],
    top_k: int,
    crop: str | None,
    min_similarity: float,
    as_json: bool,
) -> None:
    """Show the indexed pictures that look most like IMAGE."""
    with Client(server) as client:
        results = client.search(
            image,
            datasets=datasets_,
            top_k=top_k,
            crop=_parse_crop(crop),
            min_similarity=min_similarity,
        )
    if as_json:
        click.echo(json.dumps([asdict(r) for r in results], ensure_ascii=False, indent=1))
        return
    table = Table("", "similarity", "dataset", "image", box=None)
    for result in results:
        table.add_row(str(result.idx + 1), f"{result.similarity:.1f}", result.dataset, result.fname)
    Console().print(table)


def _parse_crop(crop: str | None) -> tuple[int, int, int, int] | None:
    if crop is None:
        return None
    try:
        x, y, width, height = (int(part) for part in crop.split(","))
    except ValueError:
        raise InvalidRequestError(
            f"--crop {crop!r} is not four whole numbers; give X,Y,W,H, for example 10,20,200,100."
        ) from None
    return x, y, width, height


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def datasets(server: str | None, as_json: bool) -> None:
    """List the datasets."""
    with Client(server) as client:
        found = client.datasets()
    if as_json:
        click.echo(json.dumps([asdict(d) for d in found], ensure_ascii=False, indent=1))
        return
    if not found:
        click.echo("No datasets yet. Put a folder of pictures into the datasets folder.")
        return
    table = Table("id", "name", "images", "indexed", "status", "folder", box=None)
    for d in found:
        table.add_row(str(d.id), d.name, str(d.image_count), str(d.indexed), d.status, d.folder)
    Console().print(table)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(server: str | None, as_json: bool) -> None:
    """Show the health of controller, Redis and compute servers; exit code 1 unless healthy."""
    with Client(server) as client:
        health = client.health()
    if as_json:
        click.echo(json.dumps(health, ensure_ascii=False, indent=1))
    else:
        click.echo(f"{health['status']}: futu {health.get('version', '?')}")
        for line in (health.get("message"), None):
            if line:
                click.echo(line)
        for part in ("redis", "catalogue", "index"):
            facts = health.get(part, {})
            rest = ", ".join(f"{k} {v}" for k, v in facts.items() if k != "status")
            click.echo(f"  {part}: {facts.get('status', '?')}{', ' if rest else ''}{rest}")
        for s in health.get("compute_servers", []):
            sight = "" if s["by_path"] else ", gets the pictures' bytes"
            click.echo(
                f"  compute: {s['server']} on {s['host']}, pid {s['pid']}, {s['workers']} workers, "
                f"{', '.join(s['model_ids'])}, {s['images_done']} images, "
                f"{s['images_per_s']:.0f}/s{sight}"
            )
        queue = health.get("queue", {})
        if queue:
            click.echo("  queue: " + ", ".join(f"{name} {n}" for name, n in queue.items()))
    if health["status"] != "healthy":
        sys.exit(1)


@cli.group(invoke_without_command=True)
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


def _guarded(command: Callable[[], Any]) -> None:
    """One sentence instead of a traceback for what users can mend."""
    try:
        command()
    except FutuError as error:
        for line in error.message.splitlines():
            click.echo(f"futu: {line}", err=True)
        sys.exit(_EXIT_SETTINGS if error.code == "settings" else 1)
    except OSError as error:
        click.echo(f"futu: {error}", err=True)
        sys.exit(1)


def main() -> None:
    """The program futu."""
    _guarded(lambda: cli(prog_name="futu"))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mode", type=click.Choice(_MODES), default="both")
@server_options
def run(mode: str, **given: Any) -> None:
    """Start Futu: the controller, a compute server, or both (the default).

    \b
    ./start.sh both                         all on this machine, with its own Redis
    ./start.sh controller --port 19198      REST API, catalogue, index
    ./start.sh compute --workers 4          feature extraction; any number, any machine

    The Redis that controller and compute servers share is set by REDIS_HOST, REDIS_PORT,
    REDIS_DB and REDIS_PASSWORD, or REDIS_URL.
    """  # noqa: D301 - click wants the character itself
    launch(mode, given)


def run_py() -> None:
    """The program run.py."""
    _guarded(lambda: run(prog_name="run.py"))
