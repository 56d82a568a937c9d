"""What may be wrong here, and what to do: futu doctor."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from futu.doctor import Finding, examine
from futu.launch import server_options, settings_of

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def doctor(server: str | None, /, as_json: bool, **given: Any) -> None:
    """Look for everything that may be wrong on this machine, and say what to do.

    Python, disks, permissions, settings, models, folders of pictures, limits, memory, the port,
    Redis, clocks, versions. Takes the options of run.py; nothing is changed. Exit code 0: no
    errors, though there may be warnings; 1: errors.
    """
    settings, _ = settings_of(given)
    found = []
    for finding in examine(settings, server):
        found.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1))
    else:
        levels = [each.level for each in found]
        click.echo(f"{levels.count('error')} errors, {levels.count('warning')} warnings")
    if any(each.level == "error" for each in found):
        sys.exit(1)


def _show(finding: Finding) -> None:
    level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
    click.echo(f"{level}{finding.check}: {finding.text}")
    if finding.remedy:
        click.echo(f"{'':<8}-> {finding.remedy}")
