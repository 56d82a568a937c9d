"""What there is and how it is: futu datasets, futu status."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from futu.client import Client


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
    table = Table(
        "id", "name", "images", "indexed", "answers", "status", "watched", "folder", box=None
    )
    for d in found:
        counts, answers = (str(d.image_count), str(d.indexed)), ", ".join(d.questions)
        name = f"{d.name} (reference)" if d.reference else d.name
        table.add_row(str(d.id), name, *counts, answers, d.status, how.get(d.name, ""), d.folder)
    Console().print(table)


@click.command()
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
        for part in ("redis", "catalogue"):
            facts = health.get(part, {})
            rest = ", ".join(f"{k} {v}" for k, v in facts.items() if k != "status")
            click.echo(f"  {part}: {facts.get('status', '?')}{', ' if rest else ''}{rest}")
        if health.get("index", {}).get("status") == "down":
            click.echo(f"  index: down, error {health['index']['error']}")
        if "leader" in health:
            leader = health["leader"]
            who = "this controller" if leader["this"] else "another controller"
            click.echo(f"  leader: {who}, {leader['name']}" if leader["name"] else "  leader: none")
        for live in health.get("indexes", []):
            click.echo(
                f"  index: {live['question']}, {live['model_id']}, {live['kind']}, "
                f"{live['vectors']} vectors, {live['compute_servers']} compute servers have it"
            )
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
