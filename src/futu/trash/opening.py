"""The beginning of an operation: its folders, and its journal before anything moves."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from futu.trash.disk import Disk, Signature
from futu.trash.journal import Head, Journal, Move
from futu.trash.places import Places, explain

CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""What the system says of folders that are not ours to write."""


@dataclass(frozen=True)
class Leaving:
    """A file that is to go to the trash.

    Attributes:
        source: absolute, links resolved.
        content_hash: hexadecimal.
        expected: as it was when it was hashed.
        images: see ``Move``.
        group: see ``Move``.
        of: see ``Move``; an index into the files of the same operation.
    """

    source: str
    content_hash: str
    expected: Signature
    images: tuple[int, ...] = ()
    group: str = ""
    of: int | None = None


def new_id() -> str:
    """The id of an operation; ids ascend with time, to the millisecond."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03}{secrets.token_hex(2)}"


def open_operation(
    name: str,
    leaving: Sequence[Leaving],
    catalogue: str,
    places: Places,
    folders: Iterable[str],
    disk: Disk,
) -> tuple[Journal, Head, list[Move]]:
    """Make an operation's folders and write down what will be moved.

    Args:
        name: the operation's id.
        leaving: which files; not empty.
        catalogue: its identity.
        places: where trash folders are.
        folders: those of the datasets.
        disk: how it is written.

    Raises:
        OSError: no trash can be written.
    """
    now = datetime.now(UTC)
    of_place: dict[str, str] = {}
    of_folder: dict[str, str] = {}
    moves, size = [], 0
    for n, item in enumerate(leaving):
        folder = os.path.dirname(item.source)
        if folder not in of_folder:
            wanted = places.of(item.source)
            if wanted not in of_place:
                of_place[wanted] = _open(wanted, name, places.own, disk)
            of_folder[folder] = of_place[wanted]
        place = of_folder[folder]
        target = os.path.join(place, name, places.below(place, item.source))
        size += item.expected.size
        moves.append(
            Move(
                n,
                item.source,
                target,
                item.content_hash,
                *item.expected,
                item.images,
                item.group,
                item.of,
            )
        )
    used = list(dict.fromkeys(of_place.values()))
    standard = places.standard(folders)
    chosen = next((place for place in used if place in standard), places.own)
    if chosen not in used:
        _open(chosen, name, places.own, disk)
    pictures = [item for item in leaving if item.images]
    head = Head(
        operation=name,
        created_at=now.isoformat(timespec="seconds"),
        catalogue=catalogue,
        files=len(moves),
        images=len(pictures),
        groups=len({item.group for item in pictures}),
        size=size,
    )
    journal = Journal(os.path.join(chosen, name), disk)
    journal.begin(head, moves)
    return journal, head, moves


def _open(place: str, name: str, own: str, disk: Disk) -> str:
    """Make an operation's folder in a trash, or in our own if that one is closed to us."""
    try:
        if os.path.islink(place):
            raise PermissionError(errno.EPERM, "is a link", place)
        disk.make_folder(place, 0o700)
        explain(place)
        disk.make_folder(os.path.join(place, name), 0o700)
    except OSError as error:
        if error.errno not in CLOSED or place == own:
            raise
        return _open(own, name, own, disk)
    return place
