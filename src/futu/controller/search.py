"""Queries: a picture to a feature vector to neighbours to images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import DatasetRecord, Ids, ImageRecord
from futu.catalogue.store import Catalogue
from futu.errors import JobFailedError, NoComputeServerError, NotIndexedError
from futu.images.decode import DecodeLimits, check_crop, inspect
from futu.images.info import Box
from futu.index.live import LiveIndex
from futu.jobs.message import ImageItem, ItemResult, Job, Stream, new_job_id
from futu.jobs.streams import JobQueue


@dataclass(frozen=True)
class Neighbour:
    """An image and its cosine similarity to the query."""

    image: ImageRecord
    cosine: float

    @property
    def similarity(self) -> float:
        """0-100."""
        return round(max(0.0, min(1.0, self.cosine)) * 100, 2)


class Search:
    """Finds neighbours of pictures."""

    def __init__(
        self, catalogue: Catalogue, queue: JobQueue, live: LiveIndex, limits: DecodeLimits
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._live = live
        self._limits = limits
        self._allowed: dict[tuple[int, ...], tuple[int, Ids]] = {}
        self._counts: tuple[int, dict[int, int]] = (-1, {})

    @property
    def model_id(self) -> str:
        """The model in use."""
        return self._live.model_id

    def require_server(self) -> None:
        """Raises ``NoComputeServerError`` when no compute server with our model is alive."""
        if not any(self.model_id in server.model_ids for server in self._queue.servers.alive()):
            raise NoComputeServerError(
                f"No compute server with the model {self.model_id} is running. Start one with "
                "./start.sh compute."
            )

    def extract(
        self, items: Sequence[ImageItem], stream: Stream, timeout_s: float
    ) -> list[ItemResult]:
        """Feature vectors of pictures, by a compute server, in order.

        Raises:
            NoComputeServerError, QueueFullError, JobTimeoutError, JobFailedError.
        """
        self.require_server()
        job = Job(new_job_id(), stream, [self.model_id], list(items))
        result = self._queue.ask(job, timeout_s)
        if result.error is not None:
            raise result.error.rebuild()
        if len(result.items) != len(items):
            raise JobFailedError(f"Job {job.job_id} came back with a wrong number of results.")
        return result.items

    def query_vector(
        self, data: bytes, crop: Box | None, name: str, timeout_s: float
    ) -> npt.NDArray[np.float32]:
        """The feature vector of an uploaded picture; its header and crop are checked first.

        Raises:
            ImageError: it cannot be used; also what ``extract`` raises.
        """
        info = inspect(data, self._limits, name)
        if crop is not None:
            check_crop(crop, info)
        (result,) = self.extract([ImageItem(data=data, crop=crop, name=name)], "query", timeout_s)
        if result.error is not None:
            raise result.error.rebuild()
        return np.frombuffer(result.vectors.get(self.model_id, b""), "<f4")

    def check_indexed(self, datasets: Sequence[DatasetRecord]) -> list[DatasetRecord]:
        """Those of the datasets that can be searched.

        Raises:
            NotIndexedError: none of them has anything indexed.
        """
        changes = self._catalogue.changes
        if self._counts[0] != changes:
            self._counts = (changes, self._catalogue.image_counts())
        counts = self._counts[1]
        ready = [dataset for dataset in datasets if counts.get(dataset.id)]
        if not ready:
            names = "、".join(d.name for d in datasets) or "-"
            raise NotIndexedError(
                f"Nothing is indexed yet in {names}; build the index first (futu index NAME). "
                f"尚未建立索引：{names}，请先建立索引。",
                datasets=[d.name for d in datasets],
            )
        return ready

    def neighbours(
        self,
        vector: npt.NDArray[np.float32],
        datasets: Sequence[DatasetRecord],
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> list[Neighbour]:
        """The images most similar to a vector, best first; equal files stand beside each other."""
        dataset_ids = tuple(sorted(dataset.id for dataset in datasets))
        wanted = k + offset
        ids, cosines = self._live.index.search(vector, wanted, self._allowed_ids(dataset_ids))
        images = self._catalogue.images_of_vectors(ids.tolist(), dataset_ids)
        found = [
            Neighbour(image, float(cosine))
            for vector_id, cosine in zip(ids.tolist(), cosines)
            for image in images.get(vector_id, ())
        ]
        return [n for n in found[offset:wanted] if n.similarity >= min_similarity]

    def _allowed_ids(self, dataset_ids: tuple[int, ...]) -> Ids | None:
        changes = self._catalogue.changes
        cached = self._allowed.get(dataset_ids)
        if cached is None or cached[0] != changes:
            ids = self._catalogue.searchable_vector_ids(self.model_id, dataset_ids)
            if len(self._allowed) > 64:
                self._allowed.clear()
            cached = self._allowed[dataset_ids] = (changes, ids)
        return cached[1]
