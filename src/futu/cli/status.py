"""What there is and how it is: futu datasets, futu status."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from futu.client import Client, Dataset
from futu.errors import UnavailableError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.option("--reference", metavar="NAME", help="The files of NAME are always kept.")
@click.option("--no-reference", metavar="NAME", help="They may be moved as duplicates again.")
@click.pass_obj
def datasets(
    server: str | None, as_json: bool, reference: str | None, no_reference: str | None
) -> None:
    """List the datasets."""
    with Client(server) as client:
        if reference is not None:
            client.set_reference(reference, True)
        if no_reference is not None:
            client.set_reference(no_reference, False)
        found = client.datasets()
        how = {watch["dataset"]: watch["how"] for watch in client.watched()}
    if as_json:
        click.echo(json.dumps([asdict(d) for d in found], ensure_ascii=False, indent=1))
        return
    if not found:
        click.echo("No datasets yet. Put a folder of pictures into the datasets folder.")
        return
    table = Table("id", "name", "images", "indexed", box=None)
    table.add_column("answers", no_wrap=True)
    for column in ("status", "watched", "folder"):
        table.add_column(column, overflow="fold")
    for d in found:
        counts, answers = (str(d.image_count), str(d.indexed)), _answers(d)
        name = f"{d.name} (reference)" if d.reference else d.name
        table.add_row(str(d.id), name, *counts, answers, d.status, how.get(d.name, ""), d.folder)
    Console().print(table)


def _answers(dataset: Dataset) -> str:
    """Each question with the model that serves it, and the one that is coming."""
    parts = []
    for question in dataset.questions:
        models = dataset.models.get(question)
        part = f"{question}: {models.serving.name}" if models is not None else question
        if models is not None and (coming := models.coming) is not None:
            part += f" (then {coming.name}, {coming.progress} %)"
        parts.append(part)
    return "\n".join(parts)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; with --watch a line each.")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.pass_obj
def status(server: str | None, as_json: bool, watch: bool, interval_s: float) -> None:
    """Show the health of controller, Redis and compute servers; exit code 1 unless healthy."""
    with Client(server) as client:
        if watch:
            _watch(client, as_json, interval_s)
            return
        health = client.health()
    if as_json:
        click.echo(json.dumps(health, ensure_ascii=False, indent=1))
    else:
        click.echo("\n".join(_lines(health)))
    if health["status"] != "healthy":
        sys.exit(1)


def _watch(client: Client, as_json: bool, interval_s: float) -> None:
    """Show it until Ctrl-C; on a terminal in one place, elsewhere one after the other."""
    screen = Console()
    live = Live(console=screen, auto_refresh=False) if screen.is_terminal and not as_json else None
    with contextlib.suppress(KeyboardInterrupt), live or contextlib.nullcontext():
        while True:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            try:
                health = client.health()
            except UnavailableError as error:
                health = {"status": "unreachable", "message": error.message}
            if as_json:
                click.echo(json.dumps({"time": now, **health}, ensure_ascii=False))
            elif live is not None:
                live.update(Text("\n".join([now, *_lines(health)])), refresh=True)
            else:
                click.echo("\n".join([now, *_lines(health)]))
            time.sleep(interval_s)


def _lines(health: dict[str, Any]) -> list[str]:
    """What /health says, for people."""
    version = health.get("version")
    lines = [f"{health['status']}: futu {version}" if version else str(health["status"])]
    if message := health.get("message"):
        lines.append(message)
    for part in ("redis", "catalogue"):
        facts = health.get(part)
        if facts is not None:
            rest = ", ".join(f"{k} {v}" for k, v in facts.items() if k != "status")
            lines.append(f"  {part}: {facts.get('status', '?')}{', ' if rest else ''}{rest}")
    if health.get("index", {}).get("status") == "down":
        lines.append(f"  index: down, error {health['index']['error']}")
    if "leader" in health:
        leader = health["leader"]
        who = "this controller" if leader["this"] else "another controller"
        lines.append(f"  leader: {who}, {leader['name']}" if leader["name"] else "  leader: none")
    lines += [
        f"  index: {live['question']}, {live['model_id']}, {live['kind'] or 'no index'}, "
        f"{live['vectors']} vectors, {live['compute_servers']} compute servers have it"
        for live in health.get("indexes", [])
    ]
    for s in health.get("compute_servers", []):
        sight = "" if s["by_path"] else ", gets the pictures' bytes"
        lines.append(
            f"  compute: {s['server']} on {s['host']}, pid {s['pid']}, {s['workers']} workers, "
            f"{', '.join(s['model_ids'])}, {s['images_done']} images, "
            f"{s['images_per_s']:.0f}/s{sight}"
        )
    if queue := health.get("queue"):
        lines.append("  queue: " + ", ".join(f"{name} {n}" for name, n in queue.items()))
    return lines
