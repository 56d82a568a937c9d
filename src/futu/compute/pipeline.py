"""One picture: read, checked, decoded once, and resized for each model that wants it."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

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

Inputs = dict[str, Pixels]
"""By model_id, what a picture looks like to the model: uint8, (size, size, 3)."""


class Loader:
    """Turns pictures into what models take. Safe for several threads.

    Args:
        limits: for decoding.
        gate: the memory that decoders share.
    """

    def __init__(self, limits: DecodeLimits, gate: MemoryGate) -> None:
        self._limits = limits
        self._gate = gate

    def load(
        self, item: ImageItem, specs: Collection[ModelSpec]
    ) -> tuple[ItemResult, Inputs | None]:
        """Read and decode one picture.

        Returns:
            What is known so far, and the models' inputs; None when the result is an error.
        """
        result = ItemResult(vectors={})
        try:
            return result, self._inputs(item, specs, result)
        except FutuError as error:
            result.error = ItemError.of(error)
        except (MemoryError, OSError, ValueError) as error:
            # Not foreseen, but of this picture alone: the rest of the job goes on.
            result.error = ItemError.of(ImageError(f"{item.name} cannot be used ({error})."))
        return result, None

    def _inputs(self, item: ImageItem, specs: Collection[ModelSpec], result: ItemResult) -> Inputs:
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
        target = max(spec.input_size for spec in specs)
        with self._gate.room(decode_cost(picture.info, target, item.crop), name):
            pixels = picture.decode(target, item.crop)
            return {spec.model_id: preprocess(pixels, spec) for spec in specs}

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
