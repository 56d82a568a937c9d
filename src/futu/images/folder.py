"""Files of pictures: the confinement to the configured roots, names, bytes, the content hash."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from futu.errors import (
    FutuError,
    InvalidRequestError,
    MissingFileError,
    OutsideRootsError,
    UnreadableFileError,
)
from futu.images.decode import DecodeLimits, too_many_bytes
from futu.images.formats import EXTENSIONS, HEAD_BYTES, NOT_BY_CONTENT, sniff


def display(path: str | os.PathLike[str]) -> str:
    """A path as text that every encoder accepts; bytes that are not UTF-8 show as U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


class ImageRoots:
    """The folders within which pictures may be read and served.

    Symbolic links are resolved before a path is judged, so a link inside a root that points
    out of it is refused.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def contains(self, real_path: str) -> bool:
        """Whether a path that is already resolved lies inside a root."""
        return any(
            real_path == str(root) or real_path.startswith(os.path.join(root, ""))
            for root in self.roots
        )

    def resolve(self, path: str | os.PathLike[str]) -> Path:
        """The real path of an existing file or folder inside the roots.

        Raises:
            InvalidRequestError: an empty path or one with a NUL.
            OutsideRootsError: the real path is in no root (also when nothing is there, so that
                an answer tells nothing about files elsewhere).
            MissingFileError: inside a root, but nothing there.
        """
        text = os.fspath(path)
        if not text or "\0" in text:
            raise InvalidRequestError("The image path is empty or contains a NUL character.")
        real = os.path.realpath(text)
        if not self.contains(real):
            raise OutsideRootsError(
                f"{display(text)} is outside the configured image roots. Put it in a dataset "
                "folder or start the controller with --image-root.",
                path=display(text),
            )
        if not os.path.lexists(real):
            raise MissingFileError(f"There is no file {display(text)}.", path=display(text))
        return Path(real)

    def resolve_file(self, path: str | os.PathLike[str]) -> Path:
        """As ``resolve``, for a regular file.

        Raises:
            InvalidRequestError: it is a folder or something else that is not a file.
        """
        real = self.resolve(path)
        if not real.is_file():
            raise InvalidRequestError(
                f"{display(path)} is not a file. Give the path of one picture.",
                path=display(path),
            )
        return real


def has_picture_name(name: str | os.PathLike[str]) -> bool:
    """Whether the extension is a picture's."""
    # A third of what os.path.splitext takes, for every file of every scan.
    text = os.fspath(name)
    dot = text.rfind(".")
    return dot > 0 and text[dot:].lower() in EXTENSIONS and text[dot - 1] not in "/\\"


def is_picture_file(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file is taken for a picture: by its extension, or having none, by content.

    Files of other extensions are not looked into: most folders hold many, and to open each
    would cost more than the walk.

    Raises:
        OSError: it has no extension and cannot be read.
    """
    if os.path.splitext(path)[1]:
        return has_picture_name(path)
    with open(path, "rb") as file:
        return sniff(file.read(HEAD_BYTES)) not in NOT_BY_CONTENT


def unreadable(path: str | os.PathLike[str], error: OSError) -> FutuError:
    """The error for a file the operating system will not let us read."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingFileError(f"There is no file {display(path)}.", path=display(path))
    return UnreadableFileError(
        f"{display(path)} cannot be read ({error.strerror}). Check its permissions.",
        path=display(path),
    )


def read_bytes(path: str | os.PathLike[str], limits: DecodeLimits) -> bytes:
    """A file's bytes, its size checked first.

    Raises:
        ImageTooLargeError: over ``limits.max_bytes``.
        MissingFileError, UnreadableFileError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.max_bytes:
                raise too_many_bytes(display(os.path.basename(path)), size, limits)
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from error


def hash_bytes(data: bytes) -> bytes:
    """The content hash: SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def hash_file(path: str | os.PathLike[str]) -> bytes:
    """The content hash of a file, read in pieces.

    Raises:
        MissingFileError, UnreadableFileError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise unreadable(path, error) from error
