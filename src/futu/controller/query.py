"""What is searched for: pictures, of which some may say what is not wanted, as one vector."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import ImageRecord
from futu.catalogue.store import Catalogue
from futu.controller.search import Search
from futu.errors import (
    InvalidRequestError,
    NoComputeServerError,
    NoModelError,
    NotIndexedError,
)
from futu.images.decode import DecodeLimits, check_crop, inspect
from futu.images.folder import ImageRoots, display, hash_bytes, read_bytes
from futu.images.info import Box
from futu.jobs.message import ImageItem
from futu.models.spec import Question

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
    """Turns pictures into the vector that is searched with.

    Args:
        search: asks compute servers.
        catalogue: has the vectors of its images.
        roots: within which the files of images are read.
        limits: of pictures.
    """

    def __init__(
        self, search: Search, catalogue: Catalogue, roots: ImageRoots, limits: DecodeLimits
    ) -> None:
        self._search = search
        self._catalogue = catalogue
        self._roots = roots
        self._limits = limits
        self._recent: OrderedDict[_Key, Vector] = OrderedDict()
        self._lock = threading.Lock()

    def vectors(
        self,
        wanted: Sequence[QueryPicture],
        unwanted: Sequence[QueryPicture],
        question: Question,
        *,
        also: Sequence[Question] = (),
        timeout_s: float,
        weight: float = NEGATIVE_WEIGHT,
        again: bool = False,
    ) -> dict[Question, Vector]:
        """The vector of a query for each question; see ``combine``.

        Args:
            wanted: pictures.
            unwanted: pictures.
            question: for which there must be one.
            also: questions for which it is left out when it cannot be had.
            timeout_s: for compute servers.
            weight: of the unwanted ones.
            again: whether vectors of pictures that were asked for lately may be used again, as
                for a further page.

        Raises:
            NotIndexedError: an image of the catalogue has no vector; also what ``Search.extract``
                and ``Search.vector_of`` raise.
        """
        pictures = [*wanted, *unwanted]
        found: list[dict[Question, Vector]] = [{} for _ in pictures]
        items: dict[int, ImageItem] = {}
        for place, picture in enumerate(pictures):
            if picture.image is not None and picture.part is None:
                found[place] = self._stored(picture.image, question, also)
                continue
            item = self._item(picture)
            kept = self._kept(item, (question, *also)) if again else {}
            if question in kept:
                found[place] = kept
            else:
                items[place] = item
        for place, vectors in self._computed(items, question, also, timeout_s).items():
            found[place] = vectors
        return {
            asked: combine(
                [v[asked] for v in found[: len(wanted)]],
                [v[asked] for v in found[len(wanted) :]],
                weight,
            )
            for asked in (question, *also)
            if all(asked in vectors for vectors in found)
        }

    def _stored(
        self, image: ImageRecord, question: Question, also: Sequence[Question]
    ) -> dict[Question, Vector]:
        found: dict[Question, Vector] = {}
        for asked in (question, *also):
            model_id = self._search.model_id(asked)
            stored = (
                self._catalogue.vector_of_content(image.content_hash, model_id)
                if image.content_hash is not None
                else None
            )
            if stored is not None:
                vector = stored.astype(np.float32)
                found[asked] = vector / np.linalg.norm(vector)
            elif asked == question:
                raise NotIndexedError(
                    f"Image {image.id} ({display(image.path)}) has no vector for {question!r} yet; "
                    f"index its dataset first (futu index {image.dataset} --questions "
                    "similar,copy). 尚未建立索引，请先建立索引。",
                    id=image.id,
                    dataset=image.dataset,
                    question=question,
                )
        return found

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
        items: Mapping[int, ImageItem],
        question: Question,
        also: Sequence[Question],
        timeout_s: float,
    ) -> dict[int, dict[Question, Vector]]:
        if not items:
            return {}
        pictures, deadline = list(items.values()), time.monotonic() + timeout_s
        results = self._search.extract(pictures, "query", timeout_s, question, also)
        found: list[dict[Question, Vector]] = [
            {question: self._search.vector_of(result, question)} for result in results
        ]
        for asked in also:
            model_id = self._search.model_id(asked)
            if not all(model_id in result.vectors for result in results):
                # The server that took the job has not the model; another may.
                try:
                    left_s = max(0.001, deadline - time.monotonic())
                    results = self._search.extract(pictures, "query", left_s, asked)
                except (NoModelError, NoComputeServerError):
                    continue
            for vectors, result in zip(found, results):
                vectors[asked] = self._search.vector_of(result, asked)
        for item, vectors in zip(pictures, found):
            self._keep(item, vectors)
        return dict(zip(items, found))

    def _kept(self, item: ImageItem, questions: Sequence[Question]) -> dict[Question, Vector]:
        keys = self._keys(item, questions)
        with self._lock:
            return {a: self._recent[key] for a, key in keys.items() if key in self._recent}

    def _keep(self, item: ImageItem, vectors: Mapping[Question, Vector]) -> None:
        keys = self._keys(item, vectors)
        with self._lock:
            self._recent |= {keys[asked]: vector for asked, vector in vectors.items()}
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def _keys(self, item: ImageItem, questions: Iterable[Question]) -> dict[Question, _Key]:
        digest = hash_bytes(item.data or b"")
        return {asked: (digest, item.crop, self._search.model_id(asked)) for asked in questions}


def _pixels(part: Part, fractions: bool, width: int, height: int) -> Box:
    """A part of a picture in whole pixels."""
    x, y, w, h = part
    if not fractions:
        return int(x), int(y), int(w), int(h)
    left, top = round(x * width), round(y * height)
    right, bottom = round((x + w) * width), round((y + h) * height)
    return left, top, max(1, right - left), max(1, bottom - top)
