"""Looking at indexes and tuning them: futu index-info, futu index-tune."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from futu.client import Client

_LOOK_S = 0.5


@click.command("index-info")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def index_info(server: str | None, as_json: bool) -> None:
    """Show kind, size, recall and latency of each index, and why it is of that kind.

    Recall and latency are measured on the index in use: stored vectors are searched as it is
    tuned and exactly, each without itself.
    """
    with Client(server) as client:
        found = client.index_info()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    for facts in found:
        _show(facts)


@click.command("index-tune")
@click.option(
    "--recall", default=0.99, show_default=True, type=click.FloatRange(0.5, 0.999),
    help="Share of the 10 nearest that a search has to find.",
)  # fmt: skip
@click.option(
    "--question", default="similar", show_default=True, help="The question whose index it is."
)
@click.pass_obj
def index_tune(server: str | None, recall: float, question: str) -> None:
    """Build an index anew now and tune it to a recall; show what it was and what it has become.

    Searches go on meanwhile by the index in use. The recall is held from then on.
    """
    with Client(server) as client:
        before = _index(client, question)["last_rebuild"]
        client.index_tune(recall, question)
        while (facts := _index(client, question))["doing"] or facts["last_rebuild"] == before:
            time.sleep(_LOOK_S)
    last = facts["last_rebuild"]
    if last["error"]:
        click.echo(f"The index could not be built: {last['error']}", err=True)
        sys.exit(1)
    for name in ("before", "after"):
        click.echo(f"{name:7}{_measured(last[name])}")
    click.echo(f"after {last['seconds']:.1f} s")
    _show(facts)


def _index(client: Client, question: str) -> dict[str, Any]:
    for facts in client.index_info():
        if facts["question"] == question:
            return facts
    raise click.BadParameter(f"there is no index for {question!r}", param_hint="--question")


def _show(facts: dict[str, Any]) -> None:
    parameters = dict(facts["parameters"])
    reason = parameters.pop("reason", "")
    click.echo(f"{facts['question']}: {facts['kind']}, {facts['vectors']:,} vectors")
    click.echo(f"  model: {facts['model_id']}, {facts['dimension']} dimensions")
    click.echo(f"  why: {reason}")
    if parameters:
        click.echo("  parameters: " + ", ".join(f"{k} {v:g}" for k, v in parameters.items()))
    click.echo(f"  memory: {facts['memory_bytes']:,} bytes; on disk: {facts['file_bytes']:,} bytes")
    click.echo(f"  measured: {_measured(facts['measured'])}")
    if facts["exact"]:
        click.echo("  all vectors are compared at each search")
    if facts["doing"]:
        click.echo(f"  now: {facts['doing']}")
    if facts["save_error"]:
        click.echo(f"  not saved: {facts['save_error']}")


def _measured(found: dict[str, Any] | None) -> str:
    if found is None or not found["queries"]:
        return "nothing yet"
    return (
        f"recall@10 {found['recall']:.4f}, p50 {found['p50_ms']:.2f} ms (exactly "
        f"{found['exact_p50_ms']:.2f} ms), {found['queries']} queries among "
        f"{found['vectors']:,} vectors"
    )
