"""Which thresholds suit these pictures? futu calibrate."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from futu.cli.measuring import Measured, Measuring
from futu.client import Client
from futu.errors import InvalidRequestError
from futu.models.calibration import PRECISIONS, Curve
from futu.models.similarity import Scale, check_points

_SHOWN = (70, 75, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98, 99, 99.5)
_BAR = 24
_LEAST_PICTURES = 2


@click.command()
@click.argument("dataset")
@click.option("--sample", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the sample.")
@click.option(
    "--precision",
    type=click.FloatRange(0.5, 0.9999),
    help="Recommend a threshold for this one too: so many of what is called a copy are copies.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write plot and tables to this file too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what is stored, as JSON.")
@click.option("--dry-run", is_flag=True, help="Measure, and store nothing.")
@click.option("--forget", is_flag=True, help="Forget what was measured with DATASET.")
@click.pass_obj
def calibrate(
    server: str | None,
    dataset: str,
    sample: int,
    seed: int,
    precision: float | None,
    html: Path | None,
    as_json: bool,
    dry_run: bool,
    forget: bool,
) -> None:
    """Measure with pictures of DATASET which similarity tells copies, and store it with DATASET.

    A sample of the pictures is edited in thirteen ways (cropped, mirrored, turned, blurred,
    captioned, ...), and each edit is searched for in DATASET. Other pictures that come up are
    mistakes, except those that are plainly the same picture. From then on the presets strict,
    normal and loose of DATASET have a precision of 0.999, 0.99 and 0.95, in futu check and
    futu duplicates. Takes about a minute for 100 pictures. DATASET needs vectors for copy.

    \b
    futu calibrate holiday
    futu calibrate holiday --sample 300 --precision 0.98 --html calibration.html
    """  # noqa: D301 - click wants the character itself
    console = Console(stderr=True)
    with Client(server) as client:
        if forget:
            gone = client.forget_calibration(dataset)
            console.print("Forgotten." if gone else "Nothing was measured with it.")
            return
        given = client.calibration_sample(dataset, sample, seed)
        images = given["images"]
        if len(images) < _LEAST_PICTURES:
            raise InvalidRequestError(
                f"Dataset {dataset} has {len(images)} pictures; to calibrate takes "
                f"{_LEAST_PICTURES} or more."
            )
        bars = (TextColumn("calibrate"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*bars, console=console, transient=True) as bar:
            task = bar.add_task("", total=len(images))
            measuring = Measuring(client, dataset, seed, lambda: bar.advance(task))
            found = measuring.measure(images)
        facts = _facts(given, found, seed, precision)
        if not dry_run:
            facts = client.keep_calibration(dataset, facts)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=1))
    out = Console(record=html is not None, file=io.StringIO() if as_json else None)
    _show(out, dataset, facts)
    if html is not None:
        out.save_html(str(html))
    if not dry_run:
        console.print(f"Stored with {dataset}; take it back with --forget.", highlight=False)


def _facts(
    given: dict[str, Any], found: Measured, seed: int, precision: float | None
) -> dict[str, Any]:
    """What is stored, as JSON has it."""
    scale = Scale(check_points(given["similarity"]))
    curve = Curve([c for cosines in found.copies.values() for c in cosines], found.others)
    presets, unknown = curve.presets(given["presets"], given["least"])
    wanted = {} if precision is None else {f"precision {precision:g}": precision}
    recommended = []
    for name, least in {**PRECISIONS, **wanted}.items():
        point = curve.threshold(least)
        if name in presets:
            point = curve.at(presets[name])
        if point is not None:
            measured = name not in unknown
            shown = scale.similarity(point.cosine)
            entry = {"name": name, "wanted": least, "measured": measured, "similarity": shown}
            recommended.append(entry | asdict(point))
    steps = [{"similarity": s, **asdict(curve.at(scale.cosine(s)))} for s in _SHOWN]
    normal = presets["normal"]
    edits = [
        {
            "edit": name,
            "copies": len(cosines),
            "found": sum(cosine >= normal for cosine in cosines),
            "lowest": min(cosines, default=-1.0),
        }
        for name, cosines in found.copies.items()
    ]
    return {
        "model_id": given["model_id"],
        "presets": presets,
        "recommended": recommended,
        "curve": steps,
        "edits": edits,
        "sample": len(given["images"]) - len(found.skipped),
        "seed": seed,
        "copies": sum(map(len, found.copies.values())),
        "same_pairs": len(found.same),
        "skipped": found.skipped[:20],
        "mistakes": [
            {**asdict(mistake), "similarity": scale.similarity(mistake.cosine)}
            for mistake in found.worst
        ],
    }


def _show(out: Console, dataset: str, facts: dict[str, Any]) -> None:
    """Plot and tables."""
    plot = Table(
        "similarity", "cosine", "recall", "", "precision", "", "mistakes", box=None,
        title=f"{dataset}: {facts['copies']} edited copies of {facts['sample']} pictures",
    )  # fmt: skip
    for step in facts["curve"]:
        plot.add_row(
            f"{step['similarity']:g}", f"{step['cosine']:.3f}",
            Bar(1, 0, step["recall"], width=_BAR, color="green"), f"{step['recall']:.3f}",
            Bar(1, 0, step["precision"], width=_BAR, color="blue"), f"{step['precision']:.4f}",
            str(step["wrong"]),
        )  # fmt: skip
    out.print(plot)
    table = Table("recommended", "similarity", "cosine", "recall", "precision", "", box=None)
    for each in facts["recommended"]:
        why = "" if each["measured"] else "the model's own: the sample is too small to tell"
        table.add_row(
            each["name"], f"{each['similarity']:.2f}", f"{each['cosine']:.4f}",
            f"{each['recall']:.3f}", f"{each['precision']:.4f}", why,
        )  # fmt: skip
    out.print(table)
    table = Table("edit", "found by normal", "lowest cosine", box=None)
    for each in facts["edits"]:
        table.add_row(each["edit"], f"{each['found']} of {each['copies']}", f"{each['lowest']:.3f}")
    out.print(table)
    if facts["mistakes"]:
        table = Table("most alike that were counted as mistakes", "edit", "", "", box=None)
        for each in facts["mistakes"][:5]:
            similarity = f"{each['similarity']:.2f}"
            table.add_row(similarity, each["edit"], each["original"], each["other"])
        out.print(table)
    if facts["same_pairs"]:
        out.print(f"{facts['same_pairs']} pairs are plainly the same picture and no mistakes.")
    for line in facts["skipped"]:
        out.print(f"Left out: {line}", markup=False, highlight=False)
