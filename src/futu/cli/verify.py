"""Verifying: futu verify."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from futu.client import Client
from futu.errors import FutuError

_POLL_S = 0.2
_PAGE = 1000
_EXIT_DIFFERENCES = 1
_EXIT_UNKNOWN = 2


@click.command()
@click.argument("dataset", required=False)
@click.option("--repair", is_flag=True, help="Mend what can be mended; nothing stored is redone.")
@click.option("--deep", is_flag=True, help="Read every file again and compare its content hash.")
@click.option("--cancel", is_flag=True, help="End the verification under way.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def verify(
    server: str | None, dataset: str | None, repair: bool, deep: bool, cancel: bool, as_json: bool
) -> None:
    """See whether disk, catalogue and index agree: for DATASET, or for all that were indexed.

    Each difference is listed. Without --repair nothing is changed. --repair forgets files that are
    gone (unless so many are that a disk may be missing), indexes what is new or changed, makes
    vectors that are missing or damaged, and brings the index level.

    \b
    Exit code:
      0   all agree, or all was mended
      1   there are differences (with --repair: some are left)
      2   it could not be verified
    """  # noqa: D301 - click wants the character itself
    console = Console(stderr=True)
    try:
        with Client(server) as client:
            if cancel:
                found = client.cancel_verification()
                console.print("Cancelling." if found else "No verification is under way.")
                return
            client.verify([dataset] if dataset else None, deep=deep, repair=repair)
            facts = _follow(client, console)
    except FutuError as error:
        console.print(f"futu: {error.message}", markup=False, soft_wrap=True)
        sys.exit(_EXIT_UNKNOWN)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        for difference in facts["differences"]:
            click.echo(_line(difference))
        hidden = sum(facts["found"].values()) - len(facts["differences"])
        if hidden > 0:
            click.echo(f"… and {hidden} more.")
        console.print(facts["message"], markup=False, soft_wrap=True)
    if facts["state"] != "done":
        sys.exit(_EXIT_UNKNOWN)
    if facts["left"]:
        sys.exit(_EXIT_DIFFERENCES)


def _line(difference: dict[str, Any]) -> str:
    where = ": ".join(part for part in (difference["dataset"], difference["path"]) if part)
    mended = "mended  " if difference["mended"] else ""
    return f"{mended}{difference['kind']:16}  {where}{'  ' if where else ''}{difference['detail']}"


def _whole(client: Client) -> dict[str, Any]:
    """The end of a verification with all the differences that are kept."""
    facts = client.verification(_PAGE)
    while page := client.verification(_PAGE, len(facts["differences"]))["differences"]:
        facts["differences"] += page
    return facts


def _follow(client: Client, console: Console) -> dict[str, Any]:
    columns = (
        TextColumn("verify"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=0)
        while True:
            facts = client.verification(limit=1)
            total = max(facts["total"], facts["current"])
            bar.update(task, completed=facts["current"], total=total, description=facts["message"])
            if facts["state"] != "running":
                return _whole(client)
            time.sleep(_POLL_S)
