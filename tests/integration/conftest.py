"""Controllers in this process, and a compute server that answers as it is told."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import Connection

from futu import config
from futu.catalogue.records import DatasetRecord, ModelRecord
from futu.catalogue.schema import DONE
from futu.catalogue.store import Catalogue
from futu.controller import collector
from futu.controller.search import VectorsOf
from futu.controller.service import Controller
from futu.images.folder import hash_bytes, hash_file
from futu.index.live import LiveIndex
from futu.jobs.message import (
    ImageItem,
    ItemError,
    ItemResult,
    Job,
    JobResult,
    ServerInfo,
    Stream,
)
from futu.jobs.streams import JobQueue, Lease
from futu.models.registry import DEFAULT_MODEL, spec
from futu.models.spec import ModelSpec, Question

if TYPE_CHECKING:
    from tests.integration.finding import Desk

Answer = Callable[[Job], JobResult]


def vector_of(digest: bytes, dimension: int, model_id: str = "") -> bytes:
    """A vector that tells from which content it is, and by which model."""
    vector = np.random.default_rng(list(digest + model_id.encode())).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype("<f4").tobytes()


def seen(item: ImageItem) -> bytes | None:
    """The content hash of what a compute server would read now."""
    if item.data is not None:
        return hash_bytes(item.data)
    with contextlib.suppress(Exception):
        return hash_file(os.fsdecode(item.path or b""))
    return None


def by_model(make: Callable[[ModelRecord], npt.NDArray[np.float32]]) -> VectorsOf:
    """A query of which the vectors are made by model."""
    return lambda needed, also: {model.model_id: make(model) for model in (*needed, *also)}


def looked_at(
    item: ImageItem, dimension: int, models: Mapping[str, int] | None = None
) -> ItemResult:
    """What comes of a good picture, if the file is still what it was.

    Args:
        item: the picture.
        dimension: of the vector of the default model.
        models: model_id -> dimension, instead.
    """
    digest = seen(item)
    if digest is None:
        return ItemResult(error=ItemError("missing_file", "There is no such file."))
    if item.content_hash not in (None, digest):
        return ItemResult(error=ItemError("changed", "Another one now."), content_hash=digest)
    models = {spec(DEFAULT_MODEL).model_id: dimension} if models is None else models
    vectors = {m: vector_of(digest, length, m) for m, length in models.items()}
    return ItemResult(vectors, None, digest, 30, 20)


class Worker:
    """A compute server: leases jobs of datasets and delivers what ``answer`` makes of them.

    Args:
        queue: where the jobs are.
        answer: what becomes of a job.
        name: its own.
        models: the models it makes itself known with; without them it does not.
        streams: what it leases.
    """

    def __init__(
        self,
        queue: JobQueue,
        answer: Answer,
        name: str = "worker",
        models: Sequence[str] = (),
        streams: Sequence[Stream] = ("library", "inline"),
    ) -> None:
        self._queue = queue
        self._answer = answer
        self._name = name
        self._streams = streams
        self._info = ServerInfo(name, "host", 1, list(models), 1, time.time())
        self._introduce()
        self._stop = threading.Event()
        self.done: list[Job] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _introduce(self) -> None:
        if self._info.model_ids:
            self._queue.servers.register(self._info)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._introduce()
            for lease in self._queue.lease(self._streams, self._name, block_s=0.05):
                self._queue.deliver(lease, self._answer(lease.job))
                self.done.append(lease.job)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._queue.servers.unregister(self._name)


class KilledError(Exception):
    """Thrown where a killed controller would have written to its catalogue."""


class Site:
    """A data directory with datasets, and the controllers that follow one another on it."""

    def __init__(self, folder: Path, redis_url: str, **settings: object) -> None:
        self.folder = folder
        places = {"data_dir": folder / "data", "datasets_dir": folder / "datasets"}
        self.settings = config.load(redis_url=redis_url, **{**places, **settings})
        self.writes_left = 0
        self._workers: list[Worker] = []
        self.controller = Controller(self.settings)

    @property
    def model_id(self) -> str:
        """The model of the question similar."""
        return self.controller.models["similar"].model_id

    @property
    def live(self) -> LiveIndex:
        """The index of that model, in memory."""
        return self.controller.indexes.of_model[self.model_id]

    def start(self) -> None:
        """Start the controller."""
        self.controller.start()

    def fill(self, name: str, contents: dict[str, bytes]) -> DatasetRecord:
        """Make a dataset of these files."""
        folder = self.settings.datasets_dir / name
        folder.mkdir(exist_ok=True)
        for path, data in contents.items():
            (folder / path).write_bytes(data)
        self.controller.discover()
        return self.controller.dataset(name)

    def work(self, answer: Answer | None = None) -> Worker:
        """Start a compute server; unless told otherwise all pictures are good."""
        worker = Worker(self.controller.queue, answer or self.good)
        self._workers.append(worker)
        return worker

    def serve(self, name: str, *questions: Question) -> Worker:
        """Start a compute server that has the default models of these questions and says so."""
        return self.serve_models(
            name, *(m for question, m in self.controller.models.items() if question in questions)
        )

    def serve_models(self, name: str, *specs: ModelSpec) -> Worker:
        """Start a compute server that has these models and says so."""
        models = {model.model_id: model.dimension for model in specs}

        def answer(job: Job) -> JobResult:
            ours = {m: dimension for m, dimension in models.items() if m in job.model_ids}
            if not ours:
                return JobResult(job.job_id, name, [], ItemError("no_model", "I have it not."))
            items = [looked_at(item, 0, ours) for item in job.items]
            return JobResult(job.job_id, name, items)

        streams: tuple[Stream, ...] = ("query", "library", "inline")
        worker = Worker(self.controller.queue, answer, name, list(models), streams)
        self._workers.append(worker)
        return worker

    def rest(self) -> None:
        """End the compute servers."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def kill_after(self, writes: int) -> None:
        """Let the controller write to its catalogue so many times more, and never again."""
        catalogue = self.controller.catalogue
        write = catalogue.write
        self.writes_left = writes

        def dying(**how: bool) -> AbstractContextManager[Connection]:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise KilledError
            return write(**how)

        catalogue.write = dying  # type: ignore[method-assign,assignment]

    def next_controller(self) -> None:
        """What is left of the controller ends; another takes its place, and is not started."""
        self.rest()
        self.kill_after(0)
        self.controller.stop()
        self.controller = Controller(self.settings)

    def lease(self) -> Lease:
        """The next job, in the hands of the test."""
        (lease,) = self.controller.queue.lease(["library", "inline"], "test", block_s=10)
        return lease

    def deliver(self, lease: Lease, answer: Answer | None = None) -> None:
        """Its answer; unless told otherwise all pictures are good."""
        assert self.controller.queue.deliver(lease, (answer or self.good)(lease.job))

    def good(self, job: Job) -> JobResult:
        """All pictures that are still what they were can be used."""
        items = [looked_at(item, spec(DEFAULT_MODEL).dimension) for item in job.items]
        return JobResult(job.job_id, "worker", items)

    def bad(self, job: Job) -> JobResult:
        """No picture can be used."""
        items = [ItemResult(error=ItemError("cannot_decode", "It is broken.")) for _ in job.items]
        return JobResult(job.job_id, "worker", items)

    def failed_before(self, contents: dict[str, bytes]) -> DatasetRecord:
        """A dataset of which a build has found the first file to be broken; started."""
        dataset = self.fill("one", contents)
        self.controller.start()
        self.controller.ingest.start(dataset)
        lease = self.lease()
        answer, bad = self.good(lease.job), self.bad(lease.job)
        answer.items[0] = bad.items[0]
        self.deliver(lease, lambda _: answer)
        assert self.await_state(dataset, DONE)["failed"] == 1
        return dataset

    def state(self, dataset: DatasetRecord) -> str:
        return str(self.controller.ingest.progress(dataset)["state"])

    def await_state(self, dataset: DatasetRecord, *wanted: str) -> dict[str, object]:
        """Wait for the end of a build."""
        while (progress := self.controller.ingest.progress(dataset)).get("state") not in wanted:
            threading.Event().wait(0.005)
        return progress

    def files(self, dataset: DatasetRecord) -> dict[str, tuple[str, str | None]]:
        """Path -> state and error code."""
        known = self.controller.catalogue.known_files(dataset.id, self.model_id)
        return {path: (file.state, file.error_code) for path, file in known.items()}

    def close(self) -> None:
        self.rest()
        self.controller.stop()


@pytest.fixture(autouse=True)
def brief_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that ends waits for the read its collector is in."""
    monkeypatch.setattr(collector, "_BLOCK_S", 0.02)


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    made = Site(tmp_path, redis_url)
    yield made
    made.close()


@pytest.fixture
def controller(site: Site) -> Controller:
    return site.controller


@pytest.fixture
def catalogue(site: Site) -> Catalogue:
    return site.controller.catalogue


@pytest.fixture
def desk(site: Site) -> Iterator[Desk]:
    """A site with a compute server that reads what files say."""
    from tests.integration.finding import Desk  # which needs what is defined here

    made = Desk(site)
    made.work()
    yield made
    made.rest()
