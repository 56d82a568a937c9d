"""Moving one file into the trash and home again; a crash may come between any two steps.

A file leaves by a rename, or where that cannot be done by a copy that is read again before the
original goes. It comes home without ever taking the place of another file: by a second name and
then the end of the first, or, on file systems without hard links, over an empty file made for it.
"""

from __future__ import annotations

import errno
import os

from futu.errors import FutuError, PlaceTakenError, TrashError
from futu.images.folder import display, hash_file
from futu.trash.disk import NO_LINKS, Disk, Signature, same_file, signature
from futu.trash.journal import Head, Journal, Move, Story

_PART = ".part"


class Carrier:
    """Moves the files of one operation.

    Args:
        disk: how.
        journal: where steps are written down that only it can tell from other people's.
        head: facts about the operation.
        story: what the journal says so far.
    """

    def __init__(self, disk: Disk, journal: Journal, head: Head, story: Story) -> None:
        self._disk = disk
        self._journal = journal
        self._story = story
        self.head = head
        self._named: list[Move] = []

    def away(self, move: Move, expected: Signature) -> None:
        """Into the trash.

        Args:
            move: which file.
            expected: as it was when its content was looked at.

        Raises:
            TrashError: it is another file now.
            OSError: it cannot be moved. A copy may be there; ``home`` clears it away.
        """
        _require(move.source, expected)
        self._disk.make_folder(os.path.dirname(move.target))
        try:
            self._disk.rename(move.source, move.target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy_away(move, expected)
        else:
            _require(move.target, expected, named=move.source)

    def _copy_away(self, move: Move, expected: Signature) -> None:
        folder = os.path.dirname(move.target)
        part = os.path.join(folder, _PART)
        self._copy(move.source, part, move.content_hash)
        self._twice(move)
        self._disk.rename(part, move.target)
        self._disk.sync_folder(folder)
        _require(move.source, expected)
        self._disk.unlink(move.source)

    def _copy(self, source: str, part: str, content_hash: str) -> None:
        """A copy that has been read again; none is left behind if that fails."""
        self._clear(part)
        try:
            self._disk.copy(source, part)
            if hash_file(part).hex() != content_hash:
                raise TrashError(
                    f"The copy of {display(source)} is not what was copied. Check the disk.",
                    path=display(source),
                )
        except Exception:
            self._clear(part)
            raise

    def home(self, move: Move) -> bool:
        """Out of the trash, to where it was; one that is home already stays there.

        It may have its name in the trash too until ``settle``.

        Returns:
            Whether it is at its place. Otherwise it is in the trash no longer, and another file is
            there.

        Raises:
            PlaceTakenError: another file is there.
            TrashError: it is in neither place.
            OSError: it cannot be moved.
        """
        parts = self._parts(move)
        for part in parts:
            self._clear(part)
        there = os.path.lexists(move.source)
        if not os.path.lexists(move.target):
            if there:
                return self._is_it(move)
            raise TrashError(
                f"{display(move.source)} is neither in the trash nor at its place. If a disk is "
                "not mounted, mount it and undo again.",
                path=display(move.source),
            )
        if there:
            if not self._is_empty_of_ours(move):
                if not self._is_double(move):
                    raise _taken(move)
                self._disk.unlink(move.target)
                return True
            self._disk.unlink(move.source)
        self._disk.make_folder(os.path.dirname(move.source))
        try:
            self._give_name(move, move.target, later=True)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(move.target, parts[1], move.content_hash)
            self._twice(move)
            self._give_name(move, parts[1])
            self._disk.unlink(move.target)
        return True

    def settle(self) -> None:
        """Take the names in the trash away from files whose new names are on the disk.

        Raises:
            OSError: one cannot be taken away; it may be tried again.
        """
        for folder in sorted({os.path.dirname(move.source) for move in self._named}):
            self._disk.sync_folder(folder)
        while self._named:
            self._disk.unlink(self._named[-1].target)
            self._named.pop()

    def _give_name(self, move: Move, path: str, *, later: bool = False) -> None:
        """Let the file that is at ``path`` be at its place, and no longer at ``path``."""
        try:
            self._disk.link(path, move.source)
        except FileExistsError:
            raise _taken(move) from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            self._begun(move)
            try:
                self._disk.create(move.source)
            except FileExistsError:
                raise _taken(move) from None
            try:
                self._disk.rename(path, move.source)
            except OSError:
                self._disk.unlink(move.source)
                raise
            self._disk.sync_folder(os.path.dirname(move.source))
        else:
            if later:
                # To wait for the disk once for many files takes a tenth of the time.
                self._named.append(move)
                return
            self._disk.sync_folder(os.path.dirname(move.source))
            self._disk.unlink(path)

    def _is_double(self, move: Move) -> bool:
        """Whether what is at both places is one file, or a file and the copy we made of it."""
        if same_file(move.source, move.target):
            return True
        if move.n not in self._story.twice:
            return False
        try:
            both = {hash_file(move.source).hex(), hash_file(move.target).hex()}
        except FutuError:
            return False
        return both == {move.content_hash}

    def _is_it(self, move: Move) -> bool:
        """Whether the file at a place is the one that belongs there."""
        if signature(move.source) == (move.size, move.mtime_ns):
            return True
        try:
            return hash_file(move.source).hex() == move.content_hash
        except FutuError:
            return False

    def _is_empty_of_ours(self, move: Move) -> bool:
        empty = move.n in self._story.begun and signature(move.source).size == 0
        return empty and signature(move.target).size > 0

    def _parts(self, move: Move) -> tuple[str, str]:
        """Where copies are while they are made: on the way to the trash, and home."""
        name = f".futu-{self.head.operation}-{move.n}{_PART}"
        return (
            os.path.join(os.path.dirname(move.target), _PART),
            os.path.join(os.path.dirname(move.source), name),
        )

    def _clear(self, part: str) -> None:
        if os.path.lexists(part):
            self._disk.unlink(part)

    def _twice(self, move: Move) -> None:
        self._journal.twice(move)
        self._story.twice.add(move.n)

    def _begun(self, move: Move) -> None:
        self._journal.begun(move)
        self._story.begun.add(move.n)


def _require(path: str, expected: Signature, named: str | None = None) -> None:
    if signature(path) != expected:
        name = display(named or path)
        raise TrashError(
            f"{name} was changed while the plan was carried out. Make a new plan.", path=name
        )


def _taken(move: Move) -> PlaceTakenError:
    return PlaceTakenError(
        f"The place of {display(move.source)} is taken by another file, which stays as it is. Move "
        f"that one away and undo again; the picture is safe in {display(move.target)}.",
        path=display(move.source),
    )
