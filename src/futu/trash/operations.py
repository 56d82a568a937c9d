"""Operations on the trash: a plan is carried out wholly or not at all, and can be undone.

While files leave, whatever goes wrong, and a crash too, sends those that have left home again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Collection, Sequence

from futu.errors import BusyError, FutuError, PlaceTakenError, TrashError
from futu.images.folder import display
from futu.trash.journal import (
    APPLIED,
    INCOMPLETE,
    MOVING,
    ROLLED_BACK,
    UNDOING,
    UNDONE,
    Head,
    Journal,
    Move,
    Story,
)
from futu.trash.moving import Carrier
from futu.trash.opening import CLOSED, Leaving, new_id, open_operation
from futu.trash.shelf import Operation, Shelf

log = logging.getLogger(__name__)

_AT_ONCE = 100
_MOST_PROBLEMS = 20

Told = Callable[[Head, Sequence[Move]], None]
"""Is told of files of an operation that have left, or that came home."""


class Trash(Shelf):
    """The trash folders, and what is done with them."""

    # --- away --------------------------------------------------------------------------------

    def apply(
        self,
        leaving: Sequence[Leaving],
        catalogue: str,
        moved: Told,
        home: Told,
        check: Callable[[], None] = lambda: None,
        operation: str | None = None,
    ) -> Operation:
        """Move files to the trash, all of them or none.

        Args:
            leaving: which; not empty.
            catalogue: its identity.
            moved: is told of files that have left.
            home: is told of files that came home again because something failed.
            check: is called before each move, and raises when there is to be an end.
            operation: its id, from ``new_id``.

        Raises:
            TrashError, FutuError: it failed. Everything is back, unless the message says otherwise.
        """
        try:
            journal, head, moves = open_operation(
                operation or new_id(), leaving, catalogue, self._places, self._folders(), self._disk
            )
        except OSError as error:
            raise TrashError(
                f"Nothing was moved: the trash cannot be written ({error.strerror}: "
                f"{display(error.filename or '')}). Make room or mend the permissions."
            ) from error
        story = Story(head, moves)
        carrier = Carrier(self._disk, journal, head, story)
        with self._alone(journal):
            left: list[Move] = []
            try:
                journal.enter(MOVING)
                for start in range(0, len(moves), _AT_ONCE):
                    batch = moves[start : start + _AT_ONCE]
                    for move in batch:
                        check()
                        left.append(move)
                        carrier.away(move, leaving[move.n].expected)
                    moved(head, batch)
                self._sync(moves)
                journal.enter(APPLIED, left=len(moves))
            except Exception as error:
                reason = _reason(error, left[-1] if left else None)
                raise self._give_up(journal, carrier, left, home, reason) from error
        return self._described(journal)

    def _give_up(
        self,
        journal: Journal,
        carrier: Carrier,
        left: Sequence[Move],
        home: Told,
        reason: FutuError,
    ) -> FutuError:
        """Bring everything home again; the error to be raised."""
        try:
            came, problems = self._bring(carrier, left[::-1], home)
            if problems:
                self._close(journal, INCOMPLETE, f"{reason.message} {_told(problems)}", came)
                return _but(reason, f" Not all came home: {_told(problems)}")
            journal.enter(ROLLED_BACK, error=reason.message, left=0)
        except Exception:
            log.exception("the operation in %s is taken up again later", display(journal.folder))
            return _but(reason, " It will be taken back at the next start, or by futu trash undo.")
        return _but(reason, " Everything is where it was.")

    # --- home --------------------------------------------------------------------------------

    def undo(self, operation: str, home: Told, images: Collection[int] | None = None) -> Operation:
        """Bring the files of an operation home; those that are stay.

        Args:
            operation: its id.
            home: is told of files that came home.
            images: only these, with their sidecar files; None: all.

        Raises:
            UnknownOperationError: there is none.
            BusyError: it is being carried out.
            TrashError: its journal cannot be written.
        """
        journal = self._find(operation)
        try:
            self._undo(journal, home, images)
        except OSError as error:
            raise TrashError(
                f"The trash {display(journal.folder)} cannot be written ({error.strerror}). Mend "
                "that and undo again."
            ) from error
        return self._described(journal)

    def _undo(self, journal: Journal, home: Told, images: Collection[int] | None) -> None:
        with self._alone(journal):
            story = journal.read()
            if story.head is None or story.state in (ROLLED_BACK, UNDONE):
                return
            numbers = {m.n for m in story.moves if images is None or set(images) & set(m.images)}
            chosen = [
                move
                for move in story.moves
                if (move.n in numbers or move.of in numbers) and move.n not in story.home
            ]
            everything = len(chosen) == len(story.moves)
            journal.enter(UNDOING, only=None if everything else [move.n for move in chosen])
            carrier = Carrier(self._disk, journal, story.head, story)
            came, problems = self._bring(carrier, chosen, home)
            self._close(journal, INCOMPLETE if problems else APPLIED, _told(problems), came)

    def _close(
        self, journal: Journal, state: str, error: str = "", came: Sequence[int] = ()
    ) -> None:
        """Write down how files that should come home stand.

        Args:
            journal: the operation's.
            state: ``APPLIED`` becomes ``UNDONE`` when nothing is in the trash.
            error: what did not come home, and why.
            came: numbers of the files that need not come again.
        """
        left = sum(os.path.lexists(move.target) for move in journal.read().moves)
        if state == APPLIED and not left:
            journal.enter(UNDONE, left=0)
        else:
            journal.enter(state, error=error, left=left, home=list(came))

    def recover(self, home: Told) -> list[str]:
        """Bring home what a crash has left between two places.

        Operations that another program is carrying out are left to it.

        Returns:
            Ids of the operations that were taken up.
        """
        taken_up = []
        # What was moved last makes room for what was moved before.
        for journal in sorted(self._journals(), key=_name, reverse=True):
            try:
                if journal.outline().state not in (None, MOVING, UNDOING):
                    continue
                with self._alone(journal):
                    if self._take_up(journal, home):
                        taken_up.append(os.path.basename(journal.folder))
            except BusyError:
                continue
            except (OSError, FutuError) as error:
                log.warning("%s is taken up later: %s", display(journal.folder), error)
        return taken_up

    def _take_up(self, journal: Journal, home: Told) -> bool:
        story = journal.read()
        if story.state not in (None, MOVING, UNDOING):
            return False
        if story.head is None:
            if not story.moves and story.state is None:
                self._disk.unlink(journal.path)
            else:
                log.error("%s is damaged; its files can be moved by hand", display(journal.path))
            return False
        if story.state is None:
            journal.enter(ROLLED_BACK, error="Ended before anything was moved.", left=0)
            return True
        only = None if story.only is None else set(story.only)
        chosen = [m for m in story.moves if only is None or m.n in only]
        carrier = Carrier(self._disk, journal, story.head, story)
        came, problems = self._bring(carrier, chosen[::-1], home)
        if problems:
            log.warning("%s: %s", display(journal.folder), _told(problems))
            if all(isinstance(problem, PlaceTakenError) for problem in problems):
                self._close(journal, INCOMPLETE, _told(problems), came)
            # Else no end is written: a disk may be back at the next start.
            return False
        if story.state == MOVING:
            journal.enter(ROLLED_BACK, error="Ended by a crash; everything came home.", left=0)
        else:
            self._close(journal, APPLIED, came=came)
        return True

    def _bring(
        self, carrier: Carrier, moves: Sequence[Move], home: Told
    ) -> tuple[list[int], list[FutuError]]:
        """Bring files home.

        Returns:
            The numbers of those that are in the trash no longer, and why others are.

        Raises:
            FutuError: they are home, but ``home`` could not be told.
        """
        numbers: list[int] = []
        problems: list[FutuError] = []
        untold: FutuError | None = None
        for start in range(0, len(moves), _AT_ONCE):
            came = []
            for move in moves[start : start + _AT_ONCE]:
                try:
                    if carrier.home(move):
                        came.append(move)
                    numbers.append(move.n)
                except (OSError, FutuError) as error:
                    problems.append(_reason(error, move))
            try:
                carrier.settle()
            except OSError as error:
                problems.append(_reason(error, came[-1] if came else moves[start]))
            try:
                home(carrier.head, came)
            except FutuError as error:
                untold = error
        self._sync(moves)
        self._tidy(carrier.head.operation, moves)
        if untold is not None:
            raise untold
        return numbers, problems

    def _sync(self, moves: Sequence[Move]) -> None:
        folders = {os.path.dirname(path) for m in moves for path in (m.source, m.target)}
        for folder in sorted(folders):
            with contextlib.suppress(FileNotFoundError):
                self._disk.sync_folder(folder)

    def _tidy(self, operation: str, moves: Sequence[Move]) -> None:
        """Take away the operation's folders that are empty now."""
        folders = {os.path.dirname(move.target) for move in moves}
        for folder in sorted(folders, key=len, reverse=True):
            above = folder
            with contextlib.suppress(OSError):
                while os.path.basename(folder) != operation:
                    folder, above = above, os.path.dirname(above)
                    self._disk.remove_folder(folder)


def _reason(error: Exception, move: Move | None) -> FutuError:
    """What went wrong, as a sentence."""
    if isinstance(error, FutuError):
        return error
    name = display(move.source) if move is not None else "The journal"
    if not isinstance(error, OSError):
        log.exception("an operation failed", exc_info=error)
        return TrashError("Something went wrong inside Futu; the log has the details.")
    remedy = (
        "Make room."
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else ("Mend the permissions of its folder." if error.errno in CLOSED else "Check the disk.")
    )
    return TrashError(f"{name} cannot be moved ({error.strerror or error}). {remedy}", path=name)


def _told(problems: Sequence[FutuError]) -> str:
    """Some sentences about what went wrong."""
    more = len(problems) - _MOST_PROBLEMS
    sentences = [problem.message for problem in problems[:_MOST_PROBLEMS]]
    return " ".join([*sentences, *([f"And {more} more."] if more > 0 else [])])


def _name(journal: Journal) -> str:
    return os.path.basename(journal.folder)


def _but(reason: FutuError, more: str) -> FutuError:
    return type(reason)(reason.message + more, **reason.details)
