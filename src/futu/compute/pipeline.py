"""Pictures of a job to feature vectors: read, decode, resize, infer."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from futu.errors import ChangedFileError, FutuError, ImageError, InvalidRequestError
from futu.images.decode import DecodeLimits, Picture
from futu.images.folder import hash_bytes, read_bytes
from futu.jobs.message import ImageItem, ItemError, ItemResult
from futu.models.extractor import Extractor, preprocess
from futu.models.runtime import Pixels


def load(
    item: ImageItem, limits: DecodeLimits, extractor: Extractor
) -> tuple[ItemResult, Pixels | None]:
    """Read and decode one picture.

    Returns:
        What is known so far, and its pixels; pixels are None when the result is an error.
    """
    result = ItemResult()
    try:
        if item.data is not None:
            data = item.data
        elif item.path is not None:
            data = read_bytes(os.fsdecode(item.path), limits)
        else:
            raise InvalidRequestError("The job has a picture with neither path nor bytes.")
        if item.content_hash is not None:
            result.content_hash = hash_bytes(data)
            if result.content_hash != item.content_hash:
                raise ChangedFileError(
                    f"{item.name} was changed while it was being indexed. Index it again.",
                    file=item.name,
                )
        name = item.name or "the image"
        picture = Picture(data, limits, name)
        result.width, result.height = picture.info.width, picture.info.height
        pixels = picture.decode(extractor.spec.input_size, item.crop)
        return result, preprocess(pixels, extractor.spec)
    except FutuError as error:
        result.error = ItemError.of(error)
    except (MemoryError, OSError, ValueError) as error:
        # Not foreseen, but of this picture alone: the rest of the job goes on.
        result.error = ItemError.of(ImageError(f"{item.name} cannot be used ({error})."))
    return result, None


def infer(
    loaded: Sequence[tuple[ItemResult, Pixels | None]], extractor: Extractor
) -> list[ItemResult]:
    """Run the model over what could be decoded; the model is not called when nothing could.

    Raises:
        ModelError: the runtime failed.
    """
    good = [(result, pixels) for result, pixels in loaded if pixels is not None]
    if good:
        vectors = extractor.extract(np.stack([pixels for _, pixels in good]))
        for (result, _), vector in zip(good, vectors):
            result.vectors[extractor.spec.model_id] = vector.astype("<f4").tobytes()
    return [result for result, _ in loaded]
