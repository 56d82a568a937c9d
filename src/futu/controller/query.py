"""What is searched for: pictures, some of which may be unwanted, as one vector of each model."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import ImageRecord, ModelRecord
from futu.catalogue.store import Catalogue
from futu.controller.extraction import Extraction
from futu.controller.serving import Serving
from futu.errors import (
    InvalidRequestError,
    NoComputeServerError,
    NoModelError,
    NotIndexedError,
)
from futu.images.decode import DecodeLimits, check_crop, inspect
from futu.images.folder import ImageRoots, display, hash_bytes, read_bytes
from futu.images.info import Box
from futu.jobs.message import ImageItem, ItemResult

NEGATIVE_WEIGHT = 0.5
_RECENT = 256
_LEAST_LENGTH = 1e-3

Vector = npt.NDArray[np.float32]
Part = tuple[float, float, float, float]
_Key = tuple[bytes, Box | None, str]


@dataclass(frozen=True)
class QueryPicture:
    """A picture given by its bytes, or as an image of the catalogue.

    Attributes:
        part: x, y, width, height of what is meant of it, in the upright picture.
        fractions: whether ``part`` is in fractions of the sides instead of pixels.
    """

    name: str
    data: bytes | None = None
    image: ImageRecord | None = None
    part: Part | None = None
    fractions: bool = False


def combine(
    wanted: Sequence[Vector], unwanted: Sequence[Vector], weight: float = NEGATIVE_WEIGHT
) -> Vector:
    """One vector for "more like these, less like those".

    The mean of the wanted vectors minus ``weight`` times the mean of the unwanted ones, brought to
    unit length: the feedback formula of J. J. Rocchio, "Relevance feedback in information
    retrieval" (1971), without the term of an original query (alpha 0, beta 1, gamma ``weight``).

    Args:
        wanted: one or more, each of shape (dimension,) and unit length.
        unwanted: none or more.
        weight: of the unwanted ones, 0 to 1.

    Returns:
        Shape (dimension,), float32, unit length.

    Raises:
        InvalidRequestError: they cancel each other.
    """
    if len(wanted) == 1 and not unwanted:
        return wanted[0]
    total: npt.NDArray[np.float64] = np.mean(np.stack(wanted), axis=0, dtype=np.float64)
    if unwanted:
        total -= weight * np.mean(np.stack(unwanted), axis=0, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if length < _LEAST_LENGTH:
        raise InvalidRequestError(
            "The wanted and the unwanted pictures cancel each other: nothing is left to search "
            "for. Leave out the pictures that are in both, or lower negative_weight.",
            field="negative_weight",
        )
    combined: Vector = (total / length).astype(np.float32)
    return combined


class Querying:
    """Turns pictures into the vectors that are searched with.

    Args:
        extraction: asks compute servers.
        catalogue: has the vectors of its images.
        serving: which models datasets have.
        roots: within which the files of images are read.
        limits: of pictures.
    """

    def __init__(
        self,
        extraction: Extraction,
        catalogue: Catalogue,
        serving: Serving,
        roots: ImageRoots,
        limits: DecodeLimits,
    ) -> None:
        self._extraction = extraction
        self._catalogue = catalogue
        self._serving = serving
        self._roots = roots
        self._limits = limits
        self._recent: OrderedDict[_Key, Vector] = OrderedDict()
        self._lock = threading.Lock()

    def vectors(
        self,
        wanted: Sequence[QueryPicture],
        unwanted: Sequence[QueryPicture],
        needed: Sequence[ModelRecord],
        *,
        also: Sequence[ModelRecord] = (),
        timeout_s: float,
        weight: float = NEGATIVE_WEIGHT,
        again: bool = False,
    ) -> dict[str, Vector]:
        """The vector of a query by model_id; see ``combine``.

        Args:
            wanted: pictures.
            unwanted: pictures.
            needed: models of which there must be one.
            also: models of which it is left out when it cannot be had.
            timeout_s: for compute servers.
            weight: of the unwanted ones.
            again: whether vectors of pictures that were asked for lately may be used again, as
                for a further page.

        Raises:
            NotIndexedError: an image of the catalogue has no vector; also what
                ``Extraction.extract`` and ``Extraction.vector_of`` raise.
        """
        deadline = time.monotonic() + timeout_s
        pictures = [*wanted, *unwanted]
        models = [*needed, *also]
        found: list[dict[str, Vector]] = [{} for _ in pictures]
        # Pictures that lack the vectors of the same models are asked for together.
        lacking: dict[tuple[ModelRecord, ...], dict[int, ImageItem]] = {}
        for place, picture in enumerate(pictures):
            missing = models
            if picture.image is not None and picture.part is None:
                found[place], missing = self._stored(picture.image, needed, also)
            if missing:
                item = self._item(picture)
                if again:
                    found[place] |= self._kept(item, missing)
                    missing = [m for m in missing if m.model_id not in found[place]]
                if any(model in needed for model in missing) or (missing and not again):
                    lacking.setdefault(tuple(missing), {})[place] = item
        left_s = timeout_s
        for missing_, items in lacking.items():
            computed = self._computed(list(items.values()), missing_, needed, left_s)
            for place, vectors in zip(items, computed):
                found[place] |= vectors
            left_s = max(0.001, deadline - time.monotonic())
        return {
            model.model_id: combine(
                [v[model.model_id] for v in found[: len(wanted)]],
                [v[model.model_id] for v in found[len(wanted) :]],
                weight,
            )
            for model in models
            if all(model.model_id in vectors for vectors in found)
        }

    def _stored(
        self, image: ImageRecord, needed: Sequence[ModelRecord], also: Sequence[ModelRecord]
    ) -> tuple[dict[str, Vector], list[ModelRecord]]:
        """The vectors of an image, and the models of other datasets that it has none of."""
        found: dict[str, Vector] = {}
        missing: list[ModelRecord] = []
        own = self._serving.serving(image.dataset_id)
        for model in (*needed, *also):
            stored = (
                self._catalogue.vector_of_content(image.content_hash, model.model_id)
                if image.content_hash is not None
                else None
            )
            if stored is not None:
                vector = stored.astype(np.float32)
                found[model.model_id] = vector / np.linalg.norm(vector)
            elif own.get(model.question) not in (None, model):
                missing.append(model)
            elif model in needed:
                raise NotIndexedError(
                    f"Image {image.id} ({display(image.path)}) has no vector for "
                    f"{model.question!r} yet; index its dataset first (futu index {image.dataset} "
                    "--questions similar,copy). 尚未建立索引，请先建立索引。",
                    id=image.id,
                    dataset=image.dataset,
                    question=model.question,
                )
        return found, missing

    def _item(self, picture: QueryPicture) -> ImageItem:
        """A picture as a job has it; its header and crop are checked first."""
        data = picture.data
        if data is None:
            assert picture.image is not None  # noqa: S101 - a picture is one or the other
            file = f"{picture.image.folder}/{picture.image.path}"
            data = read_bytes(self._roots.resolve_file(file), self._limits)
        info = inspect(data, self._limits, picture.name)
        crop = None
        if picture.part is not None:
            crop = _pixels(picture.part, picture.fractions, info.width, info.height)
            check_crop(crop, info)
        return ImageItem(data=data, crop=crop, name=picture.name)

    def _computed(
        self,
        pictures: Sequence[ImageItem],
        models: Sequence[ModelRecord],
        needed: Collection[ModelRecord],
        timeout_s: float,
    ) -> list[dict[str, Vector]]:
        """Vectors of pictures by model_id; those that are not needed may be lacking."""
        deadline = time.monotonic() + timeout_s
        found: list[dict[str, Vector]] = [{} for _ in pictures]
        results: list[ItemResult] = []
        for place, model in enumerate(models):
            answers = results
            if not results or not all(model.model_id in r.vectors for r in results):
                # The server that took the job has not the model; another may.
                rest = () if results else models[place + 1 :]
                left_s = max(0.001, deadline - time.monotonic()) if place else timeout_s
                try:
                    answers = self._extraction.extract(pictures, "query", left_s, model, rest)
                except (NoModelError, NoComputeServerError):
                    if model in needed:
                        raise
                    continue
                results = results or answers
            for vectors, answer in zip(found, answers):
                vectors[model.model_id] = self._extraction.vector_of(answer, model)
        for item, vectors in zip(pictures, found):
            self._keep(item, vectors)
        return found

    def _kept(self, item: ImageItem, models: Sequence[ModelRecord]) -> dict[str, Vector]:
        keys = _keys(item, [model.model_id for model in models])
        with self._lock:
            return {asked: self._recent[key] for asked, key in keys.items() if key in self._recent}

    def _keep(self, item: ImageItem, vectors: Mapping[str, Vector]) -> None:
        keys = _keys(item, vectors)
        with self._lock:
            self._recent |= {keys[asked]: vector for asked, vector in vectors.items()}
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)


def _keys(item: ImageItem, model_ids: Iterable[str]) -> dict[str, _Key]:
    digest = hash_bytes(item.data or b"")
    return {model_id: (digest, item.crop, model_id) for model_id in model_ids}


def _pixels(part: Part, fractions: bool, width: int, height: int) -> Box:
    """A part of a picture in whole pixels."""
    x, y, w, h = part
    if not fractions:
        return int(x), int(y), int(w), int(h)
    left, top = round(x * width), round(y * height)
    right, bottom = round((x + w) * width), round((y + h) * height)
    return left, top, max(1, right - left), max(1, bottom - top)
