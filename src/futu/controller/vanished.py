"""Files that a scan did not find: moved, deleted, or on a disk that is not mounted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from futu.catalogue.records import KnownFile
from futu.catalogue.schema import MISSING
from futu.images.walk import FoundFile

BELIEVED = 9
"""So many vanished files are taken for deleted, whatever their share."""


@dataclass
class Vanished:
    """The known files of a dataset that are no longer where they were.

    Attributes:
        of: how many were known to be there before.
        gone: ids of those whose content was not found elsewhere.
        moved: ids of those that lose nothing: found under another path, or never read.
    """

    of: int
    gone: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)

    @classmethod
    def before(cls, known: Iterable[KnownFile]) -> Vanished:
        """None yet, of these."""
        return cls(sum(row.state != MISSING and row.content_hash is not None for row in known))

    def held(self, share: float, *, confirmed: bool) -> bool:
        """Whether so many are gone that this needs to be confirmed.

        Args:
            share: the most that may go without, 0 to 1.
            confirmed: whether it is.
        """
        return not confirmed and too_many(len(self.gone), self.of, share)


def too_many(gone: int, of: int, share: float) -> bool:
    """Whether a disk that is not mounted is likelier than so many deleted files."""
    return gone > BELIEVED and gone > share * of


def sort_out(
    vanished: Vanished,
    left: Mapping[str, KnownFile],
    closed: Sequence[FoundFile],
    contents: Collection[bytes],
) -> int:
    """Tell what became of files that were not found.

    Args:
        vanished: they are added.
        left: the files, by path.
        closed: folders of which nobody can say what is in them.
        contents: those that the scan found under a path that did not have them before.

    Returns:
        How many may still be there, in closed folders.
    """
    below = tuple(f"{file.path}/" for file in closed)
    kept = 0
    for path, row in left.items():
        if row.state == MISSING:
            continue
        if below and path.startswith(below):
            kept += 1
        elif row.content_hash is None or row.content_hash in contents:
            vanished.moved.append(row.id)
        else:
            vanished.gone.append(row.id)
    return kept
