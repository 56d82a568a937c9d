"""A trash on real folders, on a disk that can die between any two steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from futu.images.folder import ImageRoots, hash_bytes
from futu.trash.disk import Disk, signature
from futu.trash.journal import NAME, Head, Move
from futu.trash.opening import Leaving
from futu.trash.operations import Trash
from futu.trash.places import Places

OURS = frozenset({NAME, "lock", "ABOUT.txt"})


class KilledError(BaseException):
    """The process dies here: nothing catches it."""


class DyingDisk(Disk):
    """Does ``left`` steps, then dies in the middle of the next; without a number it lives.

    Attributes:
        far: between files below this folder and others nothing can be renamed or linked, as between
            two file systems.
        links: whether there are hard links.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.steps = 0
        self.far = "/nowhere"
        self.links = True

    def step(self) -> bool:
        """Whether a step is done whole; the one before the last is the last that is."""
        self.steps += 1
        if self.left is None:
            return True
        self.left -= 1
        if self.left < -1:
            raise KilledError
        return self.left >= 0

    def _whole(self) -> None:
        if not self.step():
            raise KilledError

    def _near(self, one: str, other: str) -> None:
        if one.startswith(self.far) != other.startswith(self.far):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), one)

    def make_folder(self, path: str, mode: int = 0o777) -> None:
        self._whole()
        super().make_folder(path, mode)

    def rename(self, source: str, target: str) -> None:
        self._whole()
        self._near(source, target)
        super().rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._whole()
        self._near(source, target)
        if not self.links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), target)
        super().link(source, target)

    def create(self, path: str) -> None:
        self._whole()
        super().create(path)

    def copy(self, source: str, target: str) -> None:
        if not self.step():
            with open(source, "rb") as reading, open(target, "xb") as writing:
                data = reading.read()
                writing.write(data[: len(data) // 2])
            raise KilledError
        super().copy(source, target)

    def unlink(self, path: str) -> None:
        self._whole()
        super().unlink(path)

    def append(self, path: str, data: bytes) -> None:
        if not self.step():
            super().append(path, data[: len(data) // 2])
            raise KilledError
        super().append(path, data)

    def sync_folder(self, path: str) -> None:
        self._whole()
        super().sync_folder(path)

    def remove_folder(self, path: str) -> None:
        self._whole()
        super().remove_folder(path)


class Box:
    """A root with pictures, its trash, the trash in a data directory, and who is believed gone."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.data = folder / "data"
        self.root.mkdir(parents=True)
        self.disk = DyingDisk()
        self.places = Places(ImageRoots([self.root]), self.data / "trash")
        self.trash = self.reopened()
        self.gone: set[int] = set()

    def reopened(self) -> Trash:
        """As a program that starts sees it."""
        return Trash(self.places, lambda: [str(self.root)], self.disk)

    def put(self, path: str, data: bytes) -> str:
        """A file below the root."""
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "xb") as file:
            file.write(data)
        return full

    def leaving(self, path: str, image: int) -> Leaving:
        """A file as a plan has it."""
        full = os.path.join(self.root, path)
        with open(full, "rb") as file:
            digest = hash_bytes(file.read()).hex()
        return Leaving(full, digest, signature(full), (image,), "1")

    def apply(
        self,
        leaving: Sequence[Leaving],
        check: Callable[[], None] = lambda: None,
        operation: str | None = None,
    ) -> str:
        """Move files to the trash; the operation's id."""
        done = self.trash.apply(leaving, "c", self.moved, self.home, check, operation)
        return done.head.operation

    def moved(self, head: Head, moves: Sequence[Move]) -> None:
        self.disk.step()
        self.gone |= {i for move in moves for i in move.images}

    def home(self, head: Head, moves: Sequence[Move]) -> None:
        self.disk.step()
        self.gone -= {i for move in moves for i in move.images}

    def contents(self) -> list[bytes]:
        """All files there are, wherever they are, each as often as it is there; but not ours."""
        found = []
        for folder in (self.root, self.data):
            for where, _, names in os.walk(os.fsencode(folder)):
                for name in names:
                    if os.fsdecode(name) not in OURS:
                        with open(os.path.join(where, name), "rb") as file:
                            found.append(file.read())
        return sorted(found)

    def in_trash(self) -> list[bytes]:
        """Those that are in a trash."""
        found = []
        for place in (self.root / ".futu-trash", self.data):
            for where, _, names in os.walk(place):
                found += [(Path(where) / name).read_bytes() for name in names if name not in OURS]
        return sorted(found)
