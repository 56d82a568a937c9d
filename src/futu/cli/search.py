"""Searching: futu search."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from futu.client import Client
from futu.errors import InvalidRequestError


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dataset", "datasets_", multiple=True, help="Only this dataset; repeatable.")
@click.option(
    "--mode",
    type=click.Choice(["similar", "copy", "auto"]),
    default="similar",
    show_default=True,
    help="Look-alikes, or copies of the same picture.",
)
@click.option("--top-k", default=10, show_default=True, help="How many neighbours (1-1000).")
@click.option("--crop", metavar="X,Y,W,H", help="Search with this part of the picture, in pixels.")
@click.option("--min-similarity", default=0.0, help="Leave out what is less similar (0-100).")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_obj
def search(
    server: str | None,
    image: Path,
    datasets_: tuple[str, ...],
    mode: str,
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
            mode=mode,
            top_k=top_k,
            crop=_parse_crop(crop),
            min_similarity=min_similarity,
        )
    if as_json:
        click.echo(json.dumps([asdict(r) for r in results], ensure_ascii=False, indent=1))
        return
    several = len({result.model_id for result in results}) > 1
    table = Table("", "similarity", "dataset", "image", *(["model"] if several else []), box=None)
    for result in results:
        place = (result.dataset, result.fname, *([result.model_id] if several else []))
        table.add_row(str(result.idx + 1), f"{result.similarity:.1f}", *place)
    Console().print(table)
    if several:
        click.echo("Different models serve these datasets: similarities compare within one only.")


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
