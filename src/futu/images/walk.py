"""The walk over a dataset's folder: its pictures, and the parts that cannot be looked into."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from futu.errors import FutuError, MissingFileError, OutsideRootsError
from futu.images.folder import ImageRoots, display, has_picture_name, is_picture_file, unreadable


class FoundFile(NamedTuple):
    """A file that is taken for a picture, or a folder that cannot be entered.

    Attributes:
        path: relative to the dataset's folder, with ``/``; bytes that are not UTF-8 are
            kept as surrogates (``os.fsdecode``).
        size: bytes.
        mtime_ns: modification time, nanoseconds.
        error: why it cannot be used, if the walk already knows.
        closed: whether it is a folder of which nobody can say what is in it.
    """

    path: str
    size: int
    mtime_ns: int
    error: FutuError | None = None
    closed: bool = False


def walk(folder: Path, roots: ImageRoots) -> Iterator[FoundFile]:
    """All pictures below ``folder``, in a stable order; what cannot be entered is an error entry.

    Pictures are known by their extension; files without one by their first bytes. Names that
    begin with a dot are passed over (``.DS_Store``, ``._x.jpg``, ``.Trashes``).

    Links are followed inside the roots, links to folders after everything else and each real
    folder once: a loop ends, and a folder that is also linked to keeps its own path. A link that
    leads out of the roots is an error entry, and nothing behind it is looked at.

    Raises:
        MissingFileError: the folder itself cannot be read, or is another one at the end of the
            walk than at its beginning: its disk was taken away.
    """
    seen = {os.path.realpath(folder)}
    before = _identity(folder)
    waiting, links = [""], deque[str]()
    while waiting or links:
        relative = waiting.pop() if waiting else links.popleft()
        where = os.path.join(folder, relative) if relative else str(folder)
        if relative:
            real = os.path.realpath(where)
            if real in seen:
                continue
            seen.add(real)
        try:
            with os.scandir(where) as entries:
                listed = sorted(entries, key=_name)
        except OSError as error:
            if not relative:
                raise MissingFileError(
                    f"The folder {display(folder)} cannot be read ({error.strerror}).",
                    path=display(folder),
                ) from error
            yield FoundFile(relative, 0, 0, unreadable(relative, error), closed=True)
            continue
        below: list[str] = []
        prefix = f"{relative}/" if relative else ""
        for entry in listed:
            name = entry.name
            if name[0] == ".":
                continue
            found = _look(entry, prefix + name, roots)
            if found is None:
                continue
            if isinstance(found, FoundFile):
                yield found
            elif entry.is_symlink():
                links.append(found)
            else:
                below.append(found)
        waiting.extend(reversed(below))
    if _identity(folder) != before:
        raise MissingFileError(
            f"The disk of {display(folder)} was taken away while the folder was looked at. "
            "Mount it and index again; nothing was forgotten.",
            path=display(folder),
        )


def has_entries(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder can be listed and holds anything, hidden names included."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return next(entries, None) is not None
    return False


def require_disk(folder: str | os.PathLike[str]) -> None:
    """Return if a folder that held files still holds something.

    Raises:
        MissingFileError: it does not: its disk was taken away.
    """
    if not has_entries(folder):
        raise MissingFileError(
            f"The disk of {display(folder)} was taken away while its files were read. Nothing was "
            "forgotten: mount it and index again.",
            path=display(folder),
        )


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one at the same path; None when there is none."""
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _look(entry: os.DirEntry[str], path: str, roots: ImageRoots) -> FoundFile | str | None:
    """A file, or the path of a folder to enter, or None for what is passed over."""
    is_picture = has_picture_name(entry.name)
    try:
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            if not roots.contains(real):
                return _outside(path) if is_picture or os.path.isdir(real) else None
        elif not is_picture and "." in entry.name and entry.is_file():
            return None
        facts = entry.stat()
        if stat.S_ISDIR(facts.st_mode):
            return path
        if not stat.S_ISREG(facts.st_mode) or not (is_picture or is_picture_file(entry.path)):
            return None
        return FoundFile(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        # Without a picture's name too: it may have been read before.
        return FoundFile(path, 0, 0, unreadable(path, error))


def _outside(path: str) -> FoundFile:
    error = OutsideRootsError(
        f"{display(path)} is a link to somewhere outside the configured image roots.",
        path=display(path),
    )
    return FoundFile(path, 0, 0, error)
