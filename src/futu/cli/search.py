"""Searching: futu search."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from futu.client import Client, SearchPage, SearchQuery
from futu.errors import InvalidRequestError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_PERCENT = re.compile(r"\d+(\.\d+)?%")


def _size(text: str) -> int:
    """A number of bytes, with or without a unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", text.lower())
    unit = _UNITS.get(found[2]) if found else None
    if found is None or unit is None:
        raise click.BadParameter(f"{text!r} is not a size; give for example 500000, 500kB or 2MB.")
    return int(float(found[1]) * unit)


@click.command()
@click.argument("images", nargs=-1, type=_FILE, metavar="[IMAGE]...")
@click.option("--id", "image_ids", type=int, multiple=True, help="An indexed image; repeatable.")
@click.option("--hash", "hashes", multiple=True, help="An indexed image, by its SHA-256 in hex.")
@click.option(
    "--at", "indexed_at", type=(str, str), metavar="DATASET PATH", help="An indexed image."
)
@click.option("--url", help="A picture in the web, if the controller has FUTU_SEARCH_BY_URL.")
@click.option("--unlike", type=_FILE, multiple=True, help="Less like this picture; repeatable.")
@click.option("--unlike-id", "unlike_ids", type=int, multiple=True, help="The same, indexed.")
@click.option("--unlike-weight", type=float, help="How much these count, 0-1.  [default: 0.5]")
@click.option("--dataset", "datasets_", multiple=True, help="Only this dataset; repeatable.")
@click.option("--prefix", help="Only paths in the dataset that begin so, for example 2024/.")
@click.option("--after", help="Only files modified on this day or time or later.")
@click.option("--before", help="Only files modified before this day or time.")
@click.option(
    "--min-size",
    type=_size,
    metavar="SIZE",
    help="Only files of so many bytes or more; 500kB, 2MB.",
)
@click.option("--max-size", type=_size, metavar="SIZE", help="Only files of so many bytes or less.")
@click.option("--min-width", type=int, help="Only pictures so wide or more, pixels.")
@click.option("--max-width", type=int, help="Only pictures so wide or less.")
@click.option("--min-height", type=int, help="Only pictures so high or more.")
@click.option("--max-height", type=int, help="Only pictures so high or less.")
@click.option("--min-similarity", default=0.0, help="Leave out what is less similar (0-100).")
@click.option(
    "--mode",
    type=click.Choice(["similar", "copy", "auto"]),
    default="similar",
    show_default=True,
    help="Look-alikes, copies of the same picture, or copies and then look-alikes.",
)
@click.option(
    "--crop",
    metavar="X,Y,W,H",
    help="Search with this part of the first picture, in pixels or as 10%,10%,50%,50%.",
)
@click.option("--top-k", default=10, show_default=True, help="How many neighbours (1-1000).")
@click.option("--page", type=click.IntRange(1), help="Which page of so many; 1 is the first.")
@click.option("--offset", type=click.IntRange(0), help="Leave out so many of the best.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_obj
def search(
    server: str | None,
    /,
    images: tuple[Path, ...],
    hashes: tuple[str, ...],
    unlike: tuple[Path, ...],
    datasets_: tuple[str, ...],
    prefix: str | None,
    crop: str | None,
    top_k: int,
    page: int | None,
    offset: int | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Show the indexed pictures that look most like IMAGE.

    \b
    Several pictures are searched with at once:
      futu search a.jpg b.jpg --unlike c.jpg
      futu search --id 17 --dataset holiday --prefix 2024/ --after 2024-06-01
      futu search photo.jpg --crop 0%,0%,50%,100% --min-similarity 80
    """  # noqa: D301 - click wants the character itself
    if page is not None and offset is not None:
        raise InvalidRequestError("Give --page or --offset, not both.")
    if not (images or fields["image_ids"] or hashes or fields["indexed_at"] or fields["url"]):
        raise InvalidRequestError(
            "There is nothing to search with: name a picture, or an indexed one by --id, --hash or "
            "--at."
        )
    parts, unit = _parse_crop(crop)
    query = SearchQuery(
        images=images,
        content_hashes=hashes,
        unlike_images=unlike,
        datasets=datasets_,
        path_prefix=prefix,
        crop=parts,
        crop_unit=unit,
        top_k=top_k,
        offset=offset or ((page or 1) - 1) * top_k,
        **fields,
    )
    with Client(server) as client:
        found = client.search_page(query)
    if as_json:
        click.echo(json.dumps([asdict(r) for r in found.results], ensure_ascii=False, indent=1))
    else:
        _show(found)


def _show(found: SearchPage) -> None:
    columns = ["", "id", "similarity", "match", "dataset"]
    if found.mode != "auto":
        columns.remove("match")
    table = Table(*columns, box=None)
    table.add_column("image", overflow="fold")
    for result in found.results:
        cells = [str(result.idx + 1), str(result.id), f"{result.similarity:.1f}"]
        cells += [result.match] if found.mode == "auto" else []
        table.add_row(*cells, result.dataset, result.fname)
    Console().print(table)
    if found.next_offset is not None:
        click.echo(f"There are more: --offset {found.next_offset}", err=True)


def _parse_crop(crop: str | None) -> tuple[tuple[float, float, float, float] | None, str]:
    """The crop and its unit."""
    if crop is None:
        return None, "pixels"
    texts = [part.strip() for part in crop.split(",")]
    percent = all(_PERCENT.fullmatch(text) for text in texts)
    try:
        x, y, width, height = (
            float(text.rstrip("%")) / 100 if percent else int(text) for text in texts
        )
    except ValueError:
        raise InvalidRequestError(
            f"--crop {crop!r} is not four whole numbers or percentages; give X,Y,W,H, for example "
            "10,20,200,100 or 10%,10%,50%,50%."
        ) from None
    return (x, y, width, height), "fractions" if percent else "pixels"
