"""A plan: which images of each duplicate group are kept, and which go to the trash."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from futu.errors import InvalidRequestError

KEEP, MOVE = "keep", "move"

_NEEDED = ("group", "action", "image_id", "path", "content_hash")
_HASH_DIGITS = 64
_MOST_ID = 2**63


@dataclass(frozen=True)
class PlanRow:
    """An image in a plan. Only the first five are looked at when a plan is carried out.

    Attributes:
        group: of which duplicate group; ``RUN/NUMBER``, or any name.
        action: ``keep`` or ``move``.
        image_id: in the catalogue.
        path: of the file, as it is shown; bytes that are not UTF-8 are U+FFFD.
        content_hash: SHA-256, hexadecimal.
        reason: why.
        dataset: its name.
        size: bytes.
        width, height: pixels.
        modified_at: of the file, ISO 8601, UTC.
        to: the trash folder that it would go to.
    """

    group: str
    action: str
    image_id: int
    path: str
    content_hash: str
    reason: str = ""
    dataset: str = ""
    size: int = 0
    width: int = 0
    height: int = 0
    modified_at: str = ""
    to: str = ""


COLUMNS = tuple(field.name for field in fields(PlanRow))


def to_csv(rows: Iterable[PlanRow]) -> str:
    """A table with a head line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def from_text(text: str) -> list[PlanRow]:
    """A plan from a file: JSON as it was exported or only its rows, or CSV with , ; or tabs.

    Raises:
        InvalidRequestError: it is none; the row is named.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = json.loads(text)
        except ValueError as error:
            raise InvalidRequestError(f"The plan is not valid JSON ({error}).") from error
        return from_records(data.get("rows") if isinstance(data, dict) else data)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if lacking:
        raise InvalidRequestError(
            f"The plan's head line lacks {', '.join(lacking)}. Export one with futu duplicates "
            "--plan FILE and edit the column action."
        )
    try:
        return from_records(list(reader))
    except csv.Error as error:
        raise InvalidRequestError(f"The plan is not valid CSV ({error}).") from error


def from_records(records: object) -> list[PlanRow]:
    """A plan from the objects of a request.

    Raises:
        InvalidRequestError: a row lacks a field, or a field is wrong; the row is named.
    """
    if not isinstance(records, list) or not records:
        raise InvalidRequestError(
            "The plan has no rows; give a list of objects, as POST /api/duplicates/plan does.",
            field="rows",
        )
    return [_row(number, record) for number, record in enumerate(records, 1)]


def _row(number: int, record: object) -> PlanRow:
    if not isinstance(record, Mapping):
        raise _wrong(number, "is not an object", "rows")
    for name in _NEEDED:
        if record.get(name) in (None, ""):
            raise _wrong(number, f"has no {name}", name)
    action = str(record["action"]).strip().lower()
    if action not in (KEEP, MOVE):
        raise _wrong(number, f"has the action {action[:40]!r}; it must be keep or move", "action")
    digest = str(record["content_hash"]).strip().lower()
    if len(digest) != _HASH_DIGITS or not set(digest) <= set("0123456789abcdef"):
        raise _wrong(
            number, "has a content_hash that is not a SHA-256 in hexadecimal", "content_hash"
        )
    image_id = _whole(record["image_id"])
    if image_id is None:
        raise _wrong(
            number, f"has the image_id {str(record['image_id'])[:40]!r}, which is none", "image_id"
        )
    further: dict[str, Any] = {
        name: str(record.get(name) or "") for name in ("reason", "dataset", "modified_at", "to")
    }
    for name in ("size", "width", "height"):
        further[name] = _whole(record.get(name) or 0) or 0
    return PlanRow(str(record["group"]), action, image_id, str(record["path"]), digest, **further)


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    # Digits of ASCII only: spreadsheets that have made 1.2E+05 of an id are not guessed at.
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return int(text) if int(text) < _MOST_ID else None


def _wrong(number: int, what: str, field: str) -> InvalidRequestError:
    return InvalidRequestError(f"Row {number} of the plan {what}.", row=number, field=field)


def groups_of(rows: Sequence[PlanRow]) -> dict[str, list[PlanRow]]:
    """Group -> its rows, in order."""
    groups: dict[str, list[PlanRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups
