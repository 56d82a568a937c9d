"""The operations that the trash folders hold, and who is at work on one."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from filelock import FileLock, Timeout

from futu.errors import BusyError, UnknownOperationError
from futu.images.folder import display
from futu.trash.disk import Disk
from futu.trash.journal import MOVING, NAME, UNDOING, Head, Journal, Move
from futu.trash.places import Places

log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"
"""The state of an operation that a crash has ended, or that another program is at."""


@dataclass(frozen=True)
class Operation:
    """What is known of an operation.

    Attributes:
        head: its facts.
        state: one of the journal's, or ``INTERRUPTED``.
        left: how many of its files are in the trash, as far as is known.
        error: why it did not go as wanted.
        place: the trash that has its journal.
    """

    head: Head
    state: str
    left: int
    error: str
    place: str


class Shelf:
    """Looks at operations, wherever they are.

    Args:
        places: where trash folders are.
        folders: those of the datasets, as they are now.
        disk: how files are moved.
    """

    def __init__(
        self, places: Places, folders: Callable[[], Iterable[str]], disk: Disk | None = None
    ) -> None:
        self._places = places
        self._folders = folders
        self._disk = disk or Disk()

    def operations(self) -> list[Operation]:
        """All that can be reached, newest first."""
        found = []
        for journal in self._journals():
            try:
                found.append(self._described(journal))
            except (OSError, UnknownOperationError) as error:
                log.warning("%s cannot be read: %s", display(journal.path), error)
        return sorted(found, key=lambda o: o.head.operation, reverse=True)

    def operation(self, operation: str) -> Operation:
        """One of them.

        Raises:
            UnknownOperationError: there is none.
        """
        return self._described(self._find(operation))

    def moves(self, operation: str) -> Iterator[tuple[Move, bool]]:
        """Its files, and whether each is in the trash.

        Raises:
            UnknownOperationError: there is none.
        """
        for move in self._find(operation).read().moves:
            yield move, os.path.lexists(move.target)

    def _described(self, journal: Journal) -> Operation:
        story = journal.outline()
        if story.head is None:
            raise _unknown(os.path.basename(journal.folder))
        state = story.state if story.state not in (None, MOVING, UNDOING) else INTERRUPTED
        left = story.head.files if story.left is None else story.left
        return Operation(story.head, str(state), left, story.error, os.path.dirname(journal.folder))

    def _find(self, operation: str) -> Journal:
        for journal in self._journals():
            if os.path.basename(journal.folder) == operation:
                return journal
        raise _unknown(operation)

    def _journals(self) -> Iterator[Journal]:
        for place in self._places.standard(self._folders()):
            with contextlib.suppress(OSError):
                for name in os.listdir(place):
                    folder = os.path.join(place, name)
                    if os.path.isfile(os.path.join(folder, NAME)):
                        yield Journal(folder, self._disk)

    @contextlib.contextmanager
    def _alone(self, journal: Journal) -> Iterator[None]:
        """Keep other programs, also on other machines, from the same operation."""
        lock = FileLock(os.path.join(journal.folder, "lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BusyError(
                f"The operation {os.path.basename(journal.folder)} is being carried out by another "
                "program. Try again when it has ended."
            ) from None
        try:
            yield
        finally:
            lock.release()


def _unknown(operation: str) -> UnknownOperationError:
    return UnknownOperationError(
        f"There is no operation {operation[:80]!r} in any trash that can be reached; if its disk "
        "is not mounted, mount it. futu trash list lists them.",
        operation=operation[:80],
    )
