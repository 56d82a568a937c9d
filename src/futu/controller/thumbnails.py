"""Small versions of images, made once and kept in a bounded folder."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import READY
from futu.errors import ChangedFileError, UnknownImageError
from futu.images.decode import DecodeLimits, Picture
from futu.images.folder import ImageRoots, display, hash_bytes, read_bytes
from futu.images.info import decode_cost

log = logging.getLogger(__name__)

SIDE = 320
"""The longer side of a thumbnail, pixels."""

_QUALITY = 80
_AT_ONCE = 2
_LARGE_BYTES = 128 * 1024 * 1024
_KEPT_SHARE = 0.9


class Thumbnails:
    """Thumbnails by content: equal files share one.

    Only a file that still is the content which a compute server has decoded is decoded here.

    Args:
        folder: where they are kept.
        roots: within which pictures are read.
        limits: of pictures.
        max_bytes: of the folder; beyond it those go first that were not used for longest.
    """

    def __init__(
        self, folder: Path, roots: ImageRoots, limits: DecodeLimits, max_bytes: int
    ) -> None:
        self._folder = folder
        self._roots = roots
        self._limits = limits
        self._max_bytes = max_bytes
        self._decoders = threading.BoundedSemaphore(_AT_ONCE)
        self._large = threading.Lock()
        self._lock = threading.Lock()
        self._held_bytes: int | None = None

    def get(self, image: ImageRecord) -> bytes:
        """The thumbnail of a searchable image: WebP, its longer side at most ``SIDE`` pixels.

        Raises:
            UnknownImageError: it is not searchable.
            OutsideRootsError, MissingFileError: see ``ImageRoots.resolve``.
            ChangedFileError: the file is another one by now.
            ImageError: it cannot be decoded.
        """
        if image.state != READY or image.content_hash is None:
            raise UnknownImageError(
                f"Image {image.id} has no thumbnail: it is not indexed.", id=image.id
            )
        file = self._roots.resolve_file(os.path.join(image.folder, image.path))
        kept = self._path(image.content_hash)
        with contextlib.suppress(OSError):
            data = kept.read_bytes()
            os.utime(kept)
            return data
        data = self._make(file, image)
        try:
            self._keep(kept, data)
        except OSError as error:
            log.warning("a thumbnail could not be kept: %s", error)
        return data

    def _path(self, content_hash: bytes) -> Path:
        name = content_hash.hex()
        return self._folder / name[:2] / f"{name}.webp"

    def _make(self, file: Path, image: ImageRecord) -> bytes:
        name = display(image.path)
        with self._decoders:
            data = read_bytes(file, self._limits)
            if hash_bytes(data) != image.content_hash:
                raise ChangedFileError(f"{name} has changed; index it again.", file=name)
            picture = Picture(data, self._limits, name)
            large = decode_cost(picture.info, SIDE) > _LARGE_BYTES
            with self._large if large else contextlib.nullcontext():
                pixels = Image.fromarray(picture.decode(SIDE))
        # What was decoded may be reduced more along one side than along the other.
        scale = min(1.0, SIDE / max(picture.info.width, picture.info.height))
        width, height = picture.info.width * scale, picture.info.height * scale
        size = (max(1, round(width)), max(1, round(height)))
        buffer = io.BytesIO()
        pixels.resize(size, Image.Resampling.BICUBIC).save(buffer, "WEBP", quality=_QUALITY)
        return buffer.getvalue()

    def _keep(self, kept: Path, data: bytes) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as temporary:
            try:
                temporary.write(data)
                temporary.close()
                os.replace(temporary.name, kept)
            except OSError:
                os.unlink(temporary.name)
                raise
        with self._lock:
            if self._held_bytes is None:
                self._held_bytes = sum(facts.st_size for _, facts in self._files())
            else:
                self._held_bytes += len(data)
            if self._held_bytes > self._max_bytes:
                self._evict()

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        for parent, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):
                    yield path, os.stat(path)

    def _evict(self) -> None:
        files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns)
        held = sum(facts.st_size for _, facts in files)
        for path, facts in files:
            if held <= _KEPT_SHARE * self._max_bytes:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                held -= facts.st_size
        self._held_bytes = held
