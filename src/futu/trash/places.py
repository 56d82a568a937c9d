"""Where the trash of a file is: on its own disk, so that moving it is one step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from futu.images.folder import ImageRoots

FOLDER = ".futu-trash"
FILES = "files"
_ABOUT = "ABOUT.txt"
_TEXT = """Pictures that Futu moved away; nothing here was changed.

Each folder is one operation. Below its "files" everything lies as it lay where it came from, seen
from the folder that this trash is in (in the data directory's trash: from the root of the file
system). "futu trash list" lists the operations and "futu trash undo OPERATION" brings one home.

Without Futu: move the files back by hand. Futu never deletes them; to free the space, delete the
folder of an operation yourself.
"""


def top_folder(path: str, roots: ImageRoots) -> str | None:
    """The highest folder above a file that is inside its root and on the same file system.

    Args:
        path: of a file or folder that is there, links resolved.
        roots: the innermost one that has it counts.

    Returns:
        None: it is in no root, or not there.
    """
    inside = [str(root) for root in roots.roots if ImageRoots([root]).contains(path)]
    if not inside:
        return None
    root = max(inside, key=len)
    try:
        device = os.lstat(path).st_dev
        top, above = path, path
        while above != root:
            above = os.path.dirname(above)
            if os.stat(above).st_dev != device:
                break
            top = above
    except OSError:
        return None
    return top if os.path.isdir(top) else None


class Places:
    """The trash folders.

    Args:
        roots: within which pictures are.
        own: the trash in the data directory, for files whose own disk cannot have one.
    """

    def __init__(self, roots: ImageRoots, own: Path) -> None:
        self._roots = roots
        self.own = os.path.realpath(own)

    def of(self, path: str) -> str:
        """The trash of a file, as it should be; see ``top_folder``."""
        top = top_folder(path, self._roots)
        return self.own if top is None else os.path.join(top, FOLDER)

    def standard(self, folders: Iterable[str]) -> list[str]:
        """All where an operation's journal may be.

        Args:
            folders: of the datasets.
        """
        found = {self.own: None}
        for folder in (*map(str, self._roots.roots), *map(os.path.realpath, folders)):
            top = top_folder(folder, self._roots)
            if top is not None:
                found[os.path.join(top, FOLDER)] = None
        return list(found)

    def below(self, place: str, source: str) -> str:
        """The path of a file relative to an operation's folder in a trash."""
        if place == self.own:
            drive, rest = os.path.splitdrive(source)
            relative = os.path.join(drive.strip(":\\/"), rest.lstrip("\\/"))
        else:
            relative = os.path.relpath(source, os.path.dirname(place))
        return os.path.join(FILES, relative)


def explain(place: str) -> None:
    """Lay a text into a trash that says what it is."""
    path = os.path.join(place, _ABOUT)
    if not os.path.lexists(path):
        with open(path, "x", encoding="utf-8") as file:
            file.write(_TEXT)
