"""One picture: read, checked, decoded once, and resized for each model that wants it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from futu.compute.gate import MemoryGate
from futu.errors import ChangedFileError, FutuError, ImageError, InvalidRequestError
from futu.images.decode import DecodeLimits, Picture
from futu.images.folder import hash_bytes, read_bytes
from futu.images.info import decode_cost
from futu.jobs.message import ImageItem, ItemError, ItemResult
from futu.models.extractor import Extractor, preprocess
from futu.models.runtime import Features, Pixels
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

Inputs = dict[str, Pixels]
"""By model_id, what a picture looks like to the model: uint8, (size, size, 3)."""


@dataclass(eq=False)
class Watch:
    """How long a thread has been at a picture. One thread writes it, others read it.

    Attributes:
        since: when it began, or last went on, monotonic seconds.
        waiting: whether it waits for memory that other decoders hold.
    """

    since: float = field(default_factory=time.monotonic)
    waiting: bool = False


class Loader:
    """Turns pictures into what models take. Safe for several threads.

    Args:
        limits: for decoding.
        gate: the memory that decoders share.
    """

    def __init__(self, limits: DecodeLimits, gate: MemoryGate) -> None:
        self._limits = limits
        self._gate = gate

    def late(self, watch: Watch, limit_s: float) -> bool:
        """Whether a picture takes so long that its decoder hangs.

        The wait for memory does not count while other decoders come and go.
        """
        since = max(watch.since, self._gate.moved_at) if watch.waiting else watch.since
        return time.monotonic() - since >= limit_s

    def load(
        self,
        item: ImageItem,
        specs: Collection[ModelSpec],
        watch: Watch | None = None,
        *,
        pixels: bool = False,
    ) -> tuple[ItemResult, Inputs | None]:
        """Read and decode one picture.

        Args:
            item: the picture.
            specs: the models that want it; none only when ``pixels`` are wanted.
            watch: for ``late``.
            pixels: whether the hash of its pixels is wanted, instead.

        Returns:
            What is known so far, and the models' inputs; None when the result is an error.
        """
        result = ItemResult(vectors={})
        try:
            if pixels:
                self._hash_pixels(item, result, watch or Watch())
                return result, {}
            return result, self._inputs(item, specs, result, watch or Watch())
        except FutuError as error:
            result.error = ItemError.of(error)
        except Exception as error:
            # Not foreseen, but of this picture alone, whatever a codec throws: the rest goes on.
            log.warning("%s cannot be used", item.name, exc_info=True)
            result.error = ItemError.of(ImageError(f"{item.name} cannot be used ({error})."))
        return result, None

    def _inputs(
        self, item: ImageItem, specs: Collection[ModelSpec], result: ItemResult, watch: Watch
    ) -> Inputs:
        target = max(spec.input_size for spec in specs)
        with self._decoded(item, target, result, watch) as (_, pixels):
            return {spec.model_id: preprocess(pixels, spec) for spec in specs}

    def _hash_pixels(self, item: ImageItem, result: ItemResult, watch: Watch) -> None:
        """At full size, as they are seen: upright, 8-bit sRGB, transparency laid on white."""
        with self._decoded(item, None, result, watch) as (frames, pixels):
            if frames == 1:
                digest = hashlib.sha256(repr(pixels.shape).encode())
                digest.update(pixels.data)
                result.pixel_hash = digest.digest()

    @contextlib.contextmanager
    def _decoded(
        self, item: ImageItem, target: int | None, result: ItemResult, watch: Watch
    ) -> Iterator[tuple[int, Pixels]]:
        """How many pictures a file has, and the pixels of the first; None: at full size."""
        data = self._read(item)
        if item.content_hash is not None:
            result.content_hash = hash_bytes(data)
            if result.content_hash != item.content_hash:
                raise ChangedFileError(
                    f"{item.name} was changed while it was being indexed. Index it again.",
                    file=item.name,
                )
        name = item.name or "the image"
        picture = Picture(data, self._limits, name)
        result.width, result.height = picture.info.width, picture.info.height
        side = target or max(picture.info.width, picture.info.height)
        frames = picture.frames if target is None else 1
        watch.waiting = True
        with self._gate.room(decode_cost(picture.info, side, item.crop), name):
            # In this order, so that no reader takes the wait for decoding.
            watch.since = time.monotonic()
            watch.waiting = False
            yield frames, picture.decode(side, item.crop)

    def _read(self, item: ImageItem) -> bytes:
        if item.data is not None:
            return item.data
        if item.path is None:
            raise InvalidRequestError("The job has a picture with neither path nor bytes.")
        return read_bytes(os.fsdecode(item.path), self._limits)


def infer(inputs: Sequence[Pixels], extractor: Extractor) -> Features:
    """Feature vectors of pictures: float32, (n, dimension).

    Raises:
        ModelError: the runtime failed.
    """
    return extractor.extract(np.stack(inputs))


def note(results: Sequence[ItemResult], vectors: Features, model_id: str) -> None:
    """Write vectors into the results that they belong to."""
    for result, vector in zip(results, vectors, strict=True):
        result.vectors[model_id] = vector.astype("<f4").tobytes()
