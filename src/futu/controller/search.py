"""Queries: a picture to a feature vector to neighbours to images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import DatasetRecord, Ids, ImageRecord, ModelRecord
from futu.catalogue.store import Catalogue
from futu.controller.presence import Presence
from futu.controller.serving import Serving
from futu.errors import (
    IndexUnavailableError,
    JobFailedError,
    NoComputeServerError,
    NoModelError,
    NotIndexedError,
)
from futu.images.decode import DecodeLimits, check_crop, inspect
from futu.images.info import Box
from futu.index.live import LiveIndex, LiveIndexes
from futu.jobs.message import ImageItem, ItemResult, Job, Stream, new_job_id
from futu.jobs.streams import JobQueue

_MOST_LOOKS = 5
"""Searches in a row whose results turn out to have been deleted."""

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
"""Before a job is sent again that a server without its model has taken."""


Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """An image and its cosine similarity to the query, by the vectors of a model."""

    image: ImageRecord
    cosine: float
    model_id: str

    @property
    def similarity(self) -> float:
        """0-100."""
        return round(max(0.0, min(1.0, self.cosine)) * 100, 2)


@dataclass(frozen=True)
class Found:
    """What a search found, best first, and the models whose vectors were searched."""

    neighbours: list[Neighbour]
    model_ids: tuple[str, ...]


@dataclass(frozen=True)
class Served:
    """Datasets that one model serves, and the index to search.

    A change of models closes no index that somebody has in hand.
    """

    model: ModelRecord
    live: LiveIndex
    datasets: tuple[DatasetRecord, ...]


class Search:
    """Finds neighbours of pictures, by the model that serves a question for a dataset.

    Args:
        catalogue: images and their vectors.
        queue: where pictures go to get theirs.
        indexes: of the models in use.
        limits: of pictures.
        serving: which models datasets have.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        queue: JobQueue,
        indexes: LiveIndexes,
        limits: DecodeLimits,
        serving: Serving,
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._indexes = indexes
        self._limits = limits
        self._serving = serving
        self._presence = Presence(catalogue)
        self._allowed: dict[tuple[str, tuple[int, ...]], tuple[int, Ids]] = {}
        self._answering: dict[str, tuple[int, dict[int, ModelRecord]]] = {}

    def require_server(self, model: ModelRecord) -> None:
        """Look whether a compute server with a model is alive.

        Raises:
            NoComputeServerError: there is no compute server.
            NoModelError: none has the model.
        """
        servers = self._queue.servers.alive()
        if any(model.model_id in server.model_ids for server in servers):
            return
        if not servers:
            raise NoComputeServerError(
                f"No compute server with the model {model.model_id} is running. Start one with "
                "./start.sh compute."
            )
        raise self._serving.missing(model)

    def extract(
        self,
        items: Sequence[ImageItem],
        stream: Stream,
        timeout_s: float,
        model: ModelRecord,
    ) -> list[ItemResult]:
        """Feature vectors of pictures, by a compute server, in order.

        A server without the model may lease the job; it is then asked again, within the time.

        Raises:
            NoComputeServerError, NoModelError, QueueFullError, JobTimeoutError, JobFailedError.
        """
        deadline = time.monotonic() + timeout_s
        left_s, pause_s = timeout_s, _FIRST_PAUSE_S
        while True:
            self.require_server(model)
            job = Job(new_job_id(), stream, [model.model_id], list(items))
            result = self._queue.ask(job, left_s)
            if result.error is None:
                break
            left_s = deadline - time.monotonic() - pause_s
            if result.error.code != NoModelError.code or left_s <= 0:
                raise result.error.rebuild()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if len(result.items) != len(items):
            raise JobFailedError(f"Job {job.job_id} came back with a wrong number of results.")
        return result.items

    def vector_of(self, result: ItemResult, model: ModelRecord) -> Vector:
        """The vector of a picture that was asked for: shape (dimension,).

        Raises:
            FutuError: the picture cannot be used, or the answer is none.
        """
        if result.error is not None:
            raise result.error.rebuild()
        data = result.vectors.get(model.model_id, b"")
        if len(data) != 4 * model.dimension:
            raise JobFailedError(
                f"A compute server's answer has no vector of {model.model_id}. Run the same "
                "version of Futu everywhere."
            )
        return np.frombuffer(data, "<f4")

    def query_vector(
        self,
        data: bytes,
        crop: Box | None,
        name: str,
        timeout_s: float,
        model: ModelRecord,
    ) -> Vector:
        """The feature vector of an uploaded picture; its header and crop are checked first.

        Raises:
            ImageError: it cannot be used; also what ``extract`` raises.
        """
        info = inspect(data, self._limits, name)
        if crop is not None:
            check_crop(crop, info)
        item = ImageItem(data=data, crop=crop, name=name)
        (result,) = self.extract([item], "query", timeout_s, model)
        return self.vector_of(result, model)

    def check_indexed(
        self, datasets: Sequence[DatasetRecord], question: str = "similar"
    ) -> list[DatasetRecord]:
        """Those of the datasets that can be searched.

        Raises:
            NotIndexedError: none of them has anything indexed for the question.
        """
        answering = self._answered(question)
        ready = [dataset for dataset in datasets if dataset.id in answering]
        if not ready:
            raise self._not_indexed(datasets, question)
        return ready

    def _answered(self, question: str) -> dict[int, ModelRecord]:
        changes = self._catalogue.changes
        cached = self._answering.get(question)
        if cached is None or cached[0] != changes:
            cached = self._answering[question] = (changes, self._serving.answering(question))
        return cached[1]

    def served(
        self, datasets: Sequence[DatasetRecord], question: str = "similar"
    ) -> list[Served] | None:
        """Those of the datasets that can be searched, by model; the default model comes first.

        None: a model's index is not there: it has gone out of use meanwhile, or is not ready.

        Raises:
            NotIndexedError: none of them has anything indexed for the question.
        """
        answering = self._answered(question)
        groups: dict[ModelRecord, list[DatasetRecord]] = {}
        for dataset in datasets:
            if dataset.id in answering:
                groups.setdefault(answering[dataset.id], []).append(dataset)
        if not groups:
            raise self._not_indexed(datasets, question)
        default = self._serving.defaults[question]
        found = []
        for model in sorted(groups, key=lambda model: (model != default, model.model_id)):
            live = self._indexes.of_model.get(model.model_id)
            if live is None:
                return None
            found.append(Served(model, live, tuple(groups[model])))
        return found

    def _not_indexed(self, datasets: Sequence[DatasetRecord], question: str) -> NotIndexedError:
        names = "、".join(d.name for d in datasets) or "-"
        facts: dict[str, Any] = {"datasets": [d.name for d in datasets], "question": question}
        if question == "similar":
            return NotIndexedError(
                f"Nothing is indexed yet in {names}; build the index first (futu index NAME). "
                f"尚未建立索引：{names}，请先建立索引。",
                **facts,
            )
        model = self._serving.defaults[question].name
        return NotIndexedError(
            f"There are no {question} vectors yet in {names}. Run 'futu models pull {model}' "
            f"where a compute server runs, then 'futu index NAME --questions similar,{question}'. "
            f"尚未建立 {question} 索引：{names}，请先建立索引。",
            **facts,
            model=model,
        )

    def find(
        self,
        vector_of: Callable[[ModelRecord], Vector],
        datasets: Sequence[DatasetRecord],
        question: str = "similar",
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Found:
        """The images most similar to a query.

        Where several models serve the datasets, each is searched by its own vector of the query.
        Their similarities are not comparable, so the first neighbours of each come first, then
        the second ones of each, and so on. What serves may change meanwhile: then this looks
        again, so that all results are from before the change or all from after it.

        Args:
            vector_of: gives the query's vector under a model; asked once for each.
            datasets: to be searched. Files of them that were deleted are no results.
            question: which.
            k: how many, after ``offset`` others.
            offset: how many of the best are left out.
            min_similarity: 0-100, each by its own model.

        Raises:
            NotIndexedError: none of the datasets has anything indexed for the question.
        """
        vectors: dict[str, Vector] = {}
        looks = 0
        while True:
            seen = self._catalogue.model_changes
            ranks: list[list[Neighbour]] = []
            groups = self.served(datasets, question)
            for group in groups or ():
                if group.model.model_id not in vectors:
                    vectors[group.model.model_id] = vector_of(group.model)
                ranks.append(self.neighbours(vectors[group.model.model_id], group, k + offset))
            if self._catalogue.model_changes != seen:
                continue
            if groups is None:
                raise IndexUnavailableError(
                    "The index is being loaded; try again in a moment.", question=question
                )
            found = ranks[0] if len(ranks) == 1 else _by_rank(ranks)
            page = found[offset : k + offset]
            gone = self._presence.gone(neighbour.image for neighbour in page)
            looks += 1
            if not gone or looks == _MOST_LOOKS:
                break
        page = [n for n in page if n.image.id not in gone and n.similarity >= min_similarity]
        return Found(page, tuple(group.model.model_id for group in groups))

    def neighbours(self, vector: Vector, served: Served, k: int) -> list[Neighbour]:
        """The images of one model that are most similar to a vector of it, best first.

        Equal files stand beside each other.
        """
        dataset_ids = tuple(sorted(dataset.id for dataset in served.datasets))
        model_id = served.model.model_id
        ids, cosines = served.live.index.search(vector, k, self._allowed_ids(model_id, dataset_ids))
        images = self._catalogue.images_of_vectors(ids.tolist(), dataset_ids)
        return [
            Neighbour(image, float(cosine), model_id)
            for vector_id, cosine in zip(ids.tolist(), cosines)
            for image in images.get(vector_id, ())
        ]

    def _allowed_ids(self, model_id: str, dataset_ids: tuple[int, ...]) -> Ids:
        changes = self._catalogue.changes
        key = (model_id, dataset_ids)
        cached = self._allowed.get(key)
        if cached is None or cached[0] != changes:
            ids = self._catalogue.searchable_vector_ids(model_id, dataset_ids)
            if len(self._allowed) > 64:
                self._allowed.clear()
            cached = self._allowed[key] = (changes, ids)
        return cached[1]


def _by_rank(lists: Sequence[Sequence[Neighbour]]) -> list[Neighbour]:
    """The first of each list, then the second of each, and so on."""
    return [
        neighbour for rank in zip_longest(*lists) for neighbour in rank if neighbour is not None
    ]
