"""A program that moves pictures until it is killed: ``python -m tests.integration.moving``.

It waits for lines on standard input, each a folder and a seed. For each it starts a process that
moves files of the folder's root to the trash and home again, and says so with its process id.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from futu.images.folder import ImageRoots, hash_file
from futu.trash.disk import signature
from futu.trash.journal import Head
from futu.trash.opening import Leaving
from futu.trash.operations import Trash
from futu.trash.places import Places


def trash_of(folder: Path) -> Trash:
    """Of a root below the folder."""
    root = folder / "root"
    return Trash(Places(ImageRoots([root]), folder / "data"), lambda: [str(root)])


def ignored(head: Head, moves: object) -> None:
    del head, moves


def move_on(folder: Path, seed: int) -> None:
    trash, dice = trash_of(folder), random.Random(seed)
    trash.recover(ignored)
    # One line, so that it is not mixed with the launcher's.
    os.write(1, f"{os.getpid()} at work\n".encode())
    while True:
        files = [
            os.path.join(where, name)
            for where, _, names in os.walk(folder / "root")
            for name in names
            if ".futu" not in where
        ]
        chosen = dice.sample(files, dice.randrange(1, len(files)))
        leaving = [
            Leaving(path, hash_file(path).hex(), signature(path), (1,), "g") for path in chosen
        ]
        done = trash.apply(leaving, "c", ignored, ignored)
        trash.undo(done.head.operation, ignored)


def main() -> None:
    for line in sys.stdin:
        folder, seed = line.rsplit(" ", 1)
        pid = os.fork()
        if pid == 0:
            move_on(Path(folder), int(seed))
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
