"""Everything the trash does to a disk, one method for each step."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import NamedTuple

_PIECE = 1024 * 1024
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links say."""


class Signature(NamedTuple):
    """What tells that a file is still the one that was looked at.

    No inode number: not every file system keeps one.
    """

    size: int
    mtime_ns: int


def signature(path: str) -> Signature:
    """Of the file itself, were it a link.

    Raises:
        OSError: there is none.
    """
    facts = os.lstat(path)
    return Signature(facts.st_size, facts.st_mtime_ns)


def same_file(one: str, other: str) -> bool:
    """Whether two paths are names of one file; False where the file system cannot tell."""
    first, second = os.lstat(one), os.lstat(other)
    return (
        min(first.st_nlink, second.st_nlink) > 1
        and first.st_ino != 0
        and os.path.samestat(first, second)
    )


class Disk:
    """Steps that change a disk. A crash may come between any two, and in the middle of ``copy``."""

    def make_folder(self, path: str, mode: int = 0o777) -> None:
        """Make a folder, and those above it that are lacking."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, which is free, or that of an empty file of ours."""
        os.replace(source, target)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name.

        Raises:
            FileExistsError: the name is taken.
            OSError: with one of ``NO_LINKS``: the file system cannot do that.
        """
        os.link(source, target, follow_symlinks=os.link not in os.supports_follow_symlinks)

    def create(self, path: str) -> None:
        """Make an empty file.

        Raises:
            FileExistsError: the name is taken.
        """
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def copy(self, source: str, target: str) -> None:
        """Copy a file, with its times and permissions, until it is on the disk.

        Raises:
            FileExistsError: the target is taken.
        """
        with open(source, "rb") as reading, open(target, "xb") as writing:
            shutil.copyfileobj(reading, writing, _PIECE)
            writing.flush()
            facts = os.fstat(reading.fileno())
            # What the other file system cannot keep is no reason to refuse the bytes.
            if hasattr(os, "fchown"):
                with contextlib.suppress(OSError):
                    os.fchown(writing.fileno(), facts.st_uid, facts.st_gid)
            with contextlib.suppress(OSError):
                shutil.copystat(source, target)
            os.fsync(writing.fileno())

    def unlink(self, path: str) -> None:
        """Take away one of a file's names, or a copy whose original is in place."""
        os.unlink(path)

    def append(self, path: str, data: bytes) -> None:
        """Write to the end of a file and wait until it is on the disk."""
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync_folder(self, path: str) -> None:
        """Wait until the names in a folder are on the disk."""
        if os.name == "nt":
            return  # folders cannot be opened there, and names are written through
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)

    def remove_folder(self, path: str) -> None:
        """Take away an empty folder.

        Raises:
            OSError: it is not empty.
        """
        os.rmdir(path)
