"""Groups of duplicates, printed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from futu.client_duplicates import DuplicateGroup, GroupMember

_COLUMNS = (
    "group", "state", "tier", "keeper", "similarity", "dataset", "path", "width", "height", "bytes",
    "image_id", "content_hash", "reference", "hidden", "edit",
)  # fmt: skip


def name_of(group: DuplicateGroup) -> str:
    """Its run and number, as commands take it."""
    return f"{group.run}-{group.number}"


def _shown(group: DuplicateGroup) -> Sequence[GroupMember]:
    return [m for m in group.images if not m.hidden or group.state == "dismissed"]


def as_lines(groups: Iterable[DuplicateGroup]) -> int:
    """A JSON object a line; returns how many."""
    count = 0
    for group in groups:
        click.echo(json.dumps(asdict(group), ensure_ascii=False))
        count += 1
    return count


def as_csv(groups: Iterable[DuplicateGroup]) -> int:
    """A line for each image; returns how many groups."""
    count = 0
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(_COLUMNS)
    for group in groups:
        count += 1
        for m in group.images:
            writer.writerow(
                (
                    name_of(group), group.state, m.tier, int(m.keeper), m.similarity, m.dataset,
                    m.fname, m.width, m.height, m.size, m.id, m.content_hash, int(m.reference),
                    int(m.hidden), _edit(m),
                )
            )  # fmt: skip
        click.echo(line.getvalue(), nl=False)
        line.seek(0)
        line.truncate()
    click.echo(line.getvalue(), nl=False)
    return count


def as_table(groups: Iterable[DuplicateGroup]) -> int:
    """For people; returns how many groups."""
    console, count = Console(), 0
    for group in groups:
        count += 1
        state = "" if group.state == "open" else f", {group.state}"
        click.echo(f"{name_of(group)}  {group.tier}{state}, {decimal(group.freed_bytes)} in copies")
        table = Table(box=None, show_header=False, pad_edge=False)
        for m in _shown(group):
            mark = "*" if m.keeper else " "
            why = "" if m.keeper else m.tier if m.tier != "near" else f"{m.similarity:.1f}"
            facts = (f"{m.width}x{m.height}", decimal(m.size)) if m.present else ("gone", "")
            kept = "reference" if m.reference else ""
            table.add_row(f"  {mark}", why, *facts, f"{m.dataset}/{m.fname}", _edit(m), kept)
        console.print(table, soft_wrap=True)
    return count


def _edit(member: GroupMember) -> str:
    """What was done to a copy, in words."""
    edit = member.edit or {}
    plain = ("mirrored", "stretched", "resized", "grey", "recompressed")
    words = [name for name in plain if edit.get(name)]
    if edit.get("rotated"):
        words.append(f"rotated {edit['rotated']}")
    boxes = [(name, edit[name]) for name in ("cropped", "extended") if edit.get(name)]
    words += [f"{name} ({box[2] * box[3]:.0%})" for name, box in boxes]
    return ", ".join(words)
