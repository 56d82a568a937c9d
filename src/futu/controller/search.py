"""Queries: a picture to a feature vector to neighbours to images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import DatasetRecord, Scope
from futu.catalogue.store import Catalogue
from futu.controller.fresh import FreshCache
from futu.controller.neighbours import Neighbour, Neighbours, Page
from futu.errors import (
    InvalidRequestError,
    JobFailedError,
    NoComputeServerError,
    NoModelError,
    NotIndexedError,
)
from futu.images.decode import DecodeLimits, check_crop, inspect
from futu.images.info import Box
from futu.index.live import LiveIndexes
from futu.jobs.measures import Measures
from futu.jobs.message import ImageItem, ItemResult, Job, Stream, new_job_id
from futu.jobs.streams import JobQueue
from futu.models.spec import ModelSpec, Question
from futu.tracing import request_id

"""Searches in a row whose results turn out to have been deleted."""

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.5
"""Before a job is sent again that a server without its model has taken."""


class Search:
    """Finds neighbours of pictures, by the model of a question.

    Args:
        catalogue: images and their vectors.
        queue: where pictures go to get theirs.
        indexes: of each question.
        limits: of pictures.
        models: question -> model.
        measures: has the times of its stages.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        queue: JobQueue,
        indexes: LiveIndexes,
        limits: DecodeLimits,
        models: Mapping[Question, ModelSpec],
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._catalogue = catalogue
        self._queue = queue
        self._indexes = indexes
        self._limits = limits
        self._models = models
        self._neighbours = Neighbours(catalogue, self._measures)
        self._datasets: FreshCache[dict[str, DatasetRecord]] = FreshCache(1)

    def model_id(self, question: Question) -> str:
        """The model in use."""
        return self._models[question].model_id

    def datasets(self) -> dict[str, DatasetRecord]:
        """All datasets by name."""
        catalogue = self._catalogue
        return self._datasets.get(
            "", catalogue.changes, lambda: {d.name: d for d in catalogue.datasets()}
        )

    def question_of(self, name: str) -> Question:
        """The question that a model in use answers.

        Args:
            name: the question itself, or the name or model_id of its model.

        Raises:
            InvalidRequestError: it is none of these.
        """
        for question, model in self._models.items():
            if name in (question, model.name, model.model_id):
                return question
        known = [text for q, model in self._models.items() for text in (q, model.name)]
        raise InvalidRequestError(
            f"The field model is {name[:80]!r}; it must be one of {', '.join(known)}: the models "
            "that the settings choose.",
            field="model",
        )

    def require_server(self, question: Question) -> None:
        """Look whether a compute server with the model of a question is alive.

        Raises:
            NoComputeServerError: there is no compute server.
            NoModelError: none has the model.
        """
        model = self._models[question]
        servers = self._queue.servers.alive()
        if any(model.model_id in server.model_ids for server in servers):
            return
        if not servers:
            raise NoComputeServerError(
                f"No compute server with the model {model.model_id} is running. Start one with "
                "./start.sh compute."
            )
        raise NoModelError(
            f"No compute server has the model {model.name} ({model.model_id}), which answers "
            f"{question!r}. Run 'futu models pull {model.name}' where a compute server runs, and "
            "run all with the same settings.",
            model=model.name,
            model_id=model.model_id,
        )

    def extract(
        self,
        items: Sequence[ImageItem],
        stream: Stream,
        timeout_s: float,
        question: Question = "similar",
        also: Sequence[Question] = (),
    ) -> list[ItemResult]:
        """Feature vectors of pictures, by a compute server, in order.

        A server without the model may lease the job; it is then asked again, within the time.
        Vectors for the questions ``also`` are there if the server that leases it has the models.

        Raises:
            NoComputeServerError, NoModelError, QueueFullError, JobTimeoutError, JobFailedError.
        """
        deadline = time.monotonic() + timeout_s
        left_s, pause_s = timeout_s, _FIRST_PAUSE_S
        while True:
            self.require_server(question)
            models = [self.model_id(asked) for asked in (question, *also)]
            job = Job(new_job_id(), stream, models, list(items), request_id=request_id())
            with self._measures.timed("query" if stream == "query" else "library", "answer"):
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

    def vector_of(
        self, result: ItemResult, question: Question = "similar"
    ) -> npt.NDArray[np.float32]:
        """The vector of a picture that was asked for: shape (dimension,).

        Raises:
            FutuError: the picture cannot be used, or the answer is none.
        """
        if result.error is not None:
            raise result.error.rebuild()
        model = self._models[question]
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
        question: Question = "similar",
    ) -> npt.NDArray[np.float32]:
        """The feature vector of an uploaded picture; its header and crop are checked first.

        Raises:
            ImageError: it cannot be used; also what ``extract`` raises.
        """
        info = inspect(data, self._limits, name)
        if crop is not None:
            check_crop(crop, info)
        item = ImageItem(data=data, crop=crop, name=name)
        (result,) = self.extract([item], "query", timeout_s, question)
        return self.vector_of(result, question)

    def check_indexed(
        self, datasets: Sequence[DatasetRecord], question: Question = "similar"
    ) -> list[DatasetRecord]:
        """Those of the datasets that can be searched.

        Raises:
            NotIndexedError: none of them has anything indexed for the question.
        """
        answering = self._neighbours.answering(self.model_id(question))
        ready = [dataset for dataset in datasets if dataset.id in answering]
        if not ready:
            raise self._not_indexed(datasets, question)
        return ready

    def is_indexed(self, datasets: Sequence[DatasetRecord], question: Question) -> bool:
        """Whether one of the datasets has anything indexed for a question."""
        answering = self._neighbours.answering(self.model_id(question))
        return any(dataset.id in answering for dataset in datasets)

    def _not_indexed(
        self, datasets: Sequence[DatasetRecord], question: Question
    ) -> NotIndexedError:
        names = "、".join(d.name for d in datasets) or "-"
        facts: dict[str, Any] = {"datasets": [d.name for d in datasets], "question": question}
        if question == "similar":
            return NotIndexedError(
                f"Nothing is indexed yet in {names}; build the index first (futu index NAME). "
                f"尚未建立索引：{names}，请先建立索引。",
                **facts,
            )
        model = self._models[question].name
        return NotIndexedError(
            f"There are no {question} vectors yet in {names}. Run 'futu models pull {model}' "
            f"where a compute server runs, then 'futu index NAME --questions similar,{question}'. "
            f"尚未建立 {question} 索引：{names}，请先建立索引。",
            **facts,
            model=model,
        )

    def neighbours(
        self,
        vector: npt.NDArray[np.float32],
        datasets: Sequence[DatasetRecord],
        question: Question = "similar",
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> list[Neighbour]:
        """The images of datasets that are most similar to a vector; see ``Neighbours.find``."""
        scope = Scope(tuple(sorted(dataset.id for dataset in datasets)))
        page = self.page(vector, scope, question, k=k, offset=offset, min_similarity=min_similarity)
        return page.neighbours

    def page(
        self,
        vector: npt.NDArray[np.float32],
        scope: Scope,
        question: Question,
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Page:
        """See ``Neighbours.find``."""
        live = self._indexes[question]
        found = self._neighbours.find(
            live, vector, scope, k=k, offset=offset, min_similarity=min_similarity
        )
        return found if question == "similar" else found.matching(question)

    def copies_first(
        self,
        vectors: Mapping[Question, npt.NDArray[np.float32]],
        scope: Scope,
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Page:
        """See ``Neighbours.copies_first``."""
        asked = {question: (self._indexes[question], v) for question, v in vectors.items()}
        return self._neighbours.copies_first(
            asked, scope, k=k, offset=offset, min_similarity=min_similarity
        )
