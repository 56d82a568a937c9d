"""What is in force: futu config, futu token."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from futu.config import Settings, load, settings_file, variables
from futu.launch import server_options, settings_of
from futu.sources import misspelt, origins, shown


@click.command("config")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def config(as_json: bool, **given: Any) -> None:
    """Show the settings in force and where each comes from; secrets are hidden.

    Takes the options of run.py, so that it shows what they would do.
    """
    settings, from_line = settings_of(given)
    where = origins(Settings, from_line)
    rows = []
    for variable, (name, _) in zip(variables(), Settings.model_fields.items()):
        value = getattr(settings, name)
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        rows.append((name, variable, shown(name, text), _origin(where.get(name), variable)))
    if as_json:
        keys = ("setting", "variable", "value", "from")
        click.echo(json.dumps([dict(zip(keys, row)) for row in rows], ensure_ascii=False, indent=1))
    else:
        table = Table("setting", "variable", "value", "from", box=None)
        for row in rows:
            table.add_row(*(cell.replace("[", r"\\[") for cell in row))
        Console(soft_wrap=True).print(table)
    for sentence in misspelt(variables()):
        click.echo(sentence, err=True)
    file = settings_file()
    if not file.is_file():
        click.echo(f"There is no settings file {file.absolute()}.", err=True)


def _origin(origin: str | None, variable: str) -> str:
    if origin == "secret file":
        return f"{variable}_FILE={os.environ.get(f'{variable}_FILE', '')}"
    if origin == "environment":
        return variable if variable in os.environ else f"FUTU_{variable}"
    return origin or "default"


@click.command()
@click.option("--new", is_flag=True, help="Make a new one; the controller wants a new start then.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Of the controller.")
def token(new: bool, data_dir: Path | None) -> None:
    """Print the controller's token, and make one if there is none."""
    from futu.controller.tokens import load_token, make_token
    from futu.errors import SettingsError

    settings = load(data_dir=data_dir)
    if settings.api_token:
        if new:
            raise SettingsError("FUTU_API_TOKEN is set, so the token is changed there.")
        click.echo(settings.api_token)
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if new or not (settings.data_dir / "api_token").is_file():
        click.echo(make_token(settings.data_dir))
        return
    click.echo(load_token("", settings.data_dir))
