"""The journal of an operation: what is to be moved is on the disk before anything moves.

JSON Lines: a head, one line for each file, then what happens. A line that a crash has cut off is
the last one and says nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from futu.trash.disk import Disk

NAME = "journal.jsonl"
MOVING, APPLIED, ROLLED_BACK = "moving", "applied", "rolled_back"
UNDOING, UNDONE, INCOMPLETE = "undoing", "undone", "incomplete"
"""States of an operation: files leave; are in the trash; went home because something failed or the
program ended; go home because somebody wants it; are home; some are, others could not."""

_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Move:
    """A file of an operation.

    Attributes:
        n: its number in the operation.
        source: where it belongs, absolute, links resolved.
        target: where it is in the trash.
        content_hash: hexadecimal.
        size: bytes.
        mtime_ns: when it was last written, nanoseconds.
        images: ids in the catalogue; none: a sidecar file.
        group: of which duplicate group, as the plan names it.
        of: the number of the picture that a sidecar file goes with.
    """

    n: int
    source: str
    target: str
    content_hash: str
    size: int
    mtime_ns: int
    images: tuple[int, ...] = ()
    group: str = ""
    of: int | None = None


@dataclass(frozen=True)
class Head:
    """Facts about an operation.

    Attributes:
        operation: its id.
        created_at: ISO 8601, UTC.
        catalogue: identity of the catalogue whose image ids it has.
        files: how many, sidecar files included.
        images: how many of them are pictures.
        groups: how many.
        size: bytes of all.
    """

    operation: str
    created_at: str
    catalogue: str
    files: int
    images: int
    groups: int
    size: int


@dataclass
class Story:
    """All that a journal says.

    Attributes:
        head: None: a crash came before it was written.
        moves: its files.
        state: the last one; None: nothing has moved yet.
        only: in ``UNDOING``: the numbers that go home; None: all.
        twice: numbers of files that may be there as two copies of ours.
        begun: numbers of files whose name may be held by an empty file of ours.
        home: numbers of files that came home before.
        error: why it did not go as wanted.
        left: how many files are in the trash, if it was counted.
    """

    head: Head | None = None
    moves: list[Move] = field(default_factory=list)
    state: str | None = None
    only: list[int] | None = None
    twice: set[int] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)
    home: set[int] = field(default_factory=set)
    error: str = ""
    left: int | None = None


class Journal:
    """The file.

    Args:
        folder: of the operation.
        disk: how it is written.
    """

    def __init__(self, folder: str, disk: Disk) -> None:
        self.folder = folder
        self.path = os.path.join(folder, NAME)
        self._disk = disk
        self._torn: bool | None = None

    def begin(self, head: Head, moves: Iterable[Move]) -> None:
        """Write down what is to be moved; returns when it is on the disk."""
        lines = [asdict(head), *(asdict(move) for move in moves)]
        self._write(lines)
        self._disk.sync_folder(self.folder)
        self._disk.sync_folder(os.path.dirname(self.folder))

    def enter(self, state: str, **facts: Any) -> None:
        """Write down a state; returns when it is on the disk."""
        self._write([{"state": state, **facts}])

    def twice(self, move: Move) -> None:
        """A file is about to be there as two copies."""
        self._write([{"twice": move.n}])

    def begun(self, move: Move) -> None:
        """An empty file is about to hold the name of a file."""
        self._write([{"begun": move.n}])

    def _write(self, records: list[dict[str, Any]]) -> None:
        # Names that are not UTF-8 are escaped as lone surrogates, which json reads again.
        data = "".join(json.dumps(record) + "\n" for record in records).encode("ascii")
        if self._torn is None:
            self._torn = self._cut_off()
        try:
            self._disk.append(self.path, b"\n" + data if self._torn else data)
        except OSError:
            self._torn = True
            raise
        self._torn = False

    def _cut_off(self) -> bool:
        try:
            with open(self.path, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                return file.read(1) not in (b"", b"\n")
        except FileNotFoundError:
            return False

    def read(self) -> Story:
        """All of it.

        Raises:
            OSError: it cannot be read.
        """
        story = Story()
        with open(self.path, "rb") as file:
            for line in file:
                _tell(story, line)
        return story

    def outline(self) -> Story:
        """Its head and its state, without its moves; quick also when it is long."""
        story = Story()
        with open(self.path, "rb") as file:
            first = file.readline()
            _tell(story, first)
            start = max(len(first), file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            tail = file.read()
        if start > len(first):
            tail = tail[tail.find(b"\n") + 1 :]
        for line in tail.splitlines():
            _tell(story, line)
        if story.state is None and start > len(first):
            story = self.read()
        story.moves = []
        return story


def _tell(story: Story, line: bytes) -> None:
    try:
        record = json.loads(line)
    except ValueError:
        return
    if not isinstance(record, dict):
        return
    if "operation" in record:
        story.head = Head(**record)
    elif "n" in record:
        story.moves.append(Move(**{**record, "images": tuple(record["images"])}))
    elif "twice" in record:
        story.twice.add(record["twice"])
    elif "begun" in record:
        story.begun.add(record["begun"])
    elif "state" in record:
        story.state = record["state"]
        story.only = record.get("only")
        story.error = record.get("error", "")
        story.left = record.get("left")
        story.home.update(record.get("home", ()))
