"""A compute server with a real model and a real Redis, in a thread of the test."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.pictures import jpeg

from futu import config
from futu.compute import batching
from futu.compute import server as server_module
from futu.compute.hosting import ModelHost
from futu.compute.pipeline import infer
from futu.compute.server import ComputeServer
from futu.errors import ModelError
from futu.jobs.admin import JobAdmin
from futu.jobs.message import ImageItem, Job, JobResult, Stream, new_job_id
from futu.jobs.streams import JobQueue
from futu.models import registry
from futu.models.runtime import CPU_BATCH
from futu.models.spec import ModelSpec

LEASE_S = 2.0
MODEL = registry.spec().model_id


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    made = JobQueue(redis_url, lease_s=LEASE_S)
    yield made
    made.close()


@contextlib.contextmanager
def serving(
    redis_url: str, data_dir: Path, lease_s: float = LEASE_S, **others: Any
) -> Iterator[tuple[ComputeServer, threading.Thread]]:
    """One library worker and the query lane."""
    settings = config.load(
        redis_url=redis_url, data_dir=data_dir, lease_s=lease_s, compute_workers=1, **others
    )
    server = ComputeServer(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server, thread
    finally:
        server.stop()
        thread.join()


@pytest.fixture
def server(
    redis_url: str, data_dir: Path, queue: JobQueue
) -> Iterator[tuple[ComputeServer, threading.Thread]]:
    with serving(redis_url, data_dir) as running:
        until(queue.servers.alive)
        yield running


class Held:
    """A picture that a worker reads until the test lets it go on."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.item = ImageItem(path=os.fsencode(path), name=path.name)
        self._end = -1

    def wait(self) -> None:
        """Until a worker reads it."""
        self._end = os.open(os.fsdecode(self.item.path or b""), os.O_WRONLY)

    def go_on(self) -> None:
        """Here is the picture."""
        if self._end >= 0:
            os.write(self._end, jpeg(1))
            os.close(self._end)
            self._end = -1

    def end(self) -> None:
        """Let go of all that still read it."""
        with contextlib.suppress(OSError):  # nobody does
            os.close(os.open(os.fsdecode(self.item.path or b""), os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(tmp_path / "held.jpg")
    yield made
    made.go_on()


def a_job(item: ImageItem, stream: Stream = "library") -> Job:
    return Job(new_job_id(), stream, [MODEL], [item])


def good(number: int = 1) -> ImageItem:
    return ImageItem(data=jpeg(number), name="good.jpg")


def answered(queue: JobQueue, job: Job, entry_id: bytes) -> JobResult:
    return queue.wait_result(job, entry_id, 20)


def test_job_that_takes_longer_than_the_lease_stays_with_its_worker(
    server: tuple[ComputeServer, threading.Thread], queue: JobQueue, held: Held
) -> None:
    job = a_job(held.item)
    entry = queue.enqueue(job)
    held.wait()
    (state,) = JobAdmin(queue).jobs()
    beats = 0
    silent_s = state.silent_s
    # Each fall of the silence is a heartbeat; so many take longer than the lease.
    while beats < 5:
        assert queue.reclaim("library", "other") == []
        assert queue.locks.is_locked(job.job_id)
        (state,) = JobAdmin(queue).jobs()
        beats += state.silent_s < silent_s
        silent_s = state.silent_s
    held.go_on()
    assert answered(queue, job, entry).items[0].vectors[MODEL]
    assert JobAdmin(queue).jobs() == []


def test_query_is_answered_while_every_worker_and_the_library_queue_are_busy(
    server: tuple[ComputeServer, threading.Thread], queue: JobQueue, held: Held
) -> None:
    first = a_job(held.item)
    entry = queue.enqueue(first)
    held.wait()
    waiting = [a_job(good(), "inline") for _ in range(20)]
    for job in waiting:
        queue.enqueue(job)
    query = a_job(good(2), "query")
    assert answered(queue, query, queue.enqueue(query)).items[0].vectors[MODEL]
    assert queue.depth() == {"query": 0, "library": 1, "inline": 20}
    held.go_on()
    assert answered(queue, first, entry).items[0].vectors[MODEL]
    until(lambda: queue.depth()["inline"] == 0)


def test_fault_of_the_model_gives_the_job_back_long_before_its_lease_ends(
    redis_url: str, data_dir: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(inputs: Any, extractor: Any) -> Any:
        raise ModelError("ONNX Runtime failed, as when memory is short.")

    monkeypatch.setattr(batching, "infer", fails)
    patient = JobQueue(redis_url, lease_s=60)
    try:
        with serving(redis_url, data_dir, lease_s=60):
            job = a_job(good(), "inline")
            entry = patient.enqueue(job)
            (lease,) = until(lambda: patient.reclaim("inline", "other"))
            assert (lease.entry_id, lease.deliveries) == (entry, 2)
    finally:
        patient.close()


def test_job_is_done_when_the_model_works_again_and_a_broken_picture_is_not_tried_again(
    redis_url: str, data_dir: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def fails_once(inputs: Any, extractor: Any) -> Any:
        seen.append(len(inputs))
        if len(seen) == 1:
            raise ModelError("ONNX Runtime failed, as when memory is short.")
        return infer(inputs, extractor)

    monkeypatch.setattr(batching, "infer", fails_once)
    with serving(redis_url, data_dir):
        job = Job(new_job_id(), "inline", [MODEL], [good(), ImageItem(data=b"no", name="broken")])
        result = answered(queue, job, queue.enqueue(job))
    assert seen == [1, 1]
    assert result.items[0].vectors[MODEL]
    assert result.items[1].error is not None
    assert result.items[1].error.code == "not_an_image"


def test_stopping_server_finishes_its_job_and_takes_no_other(
    server: tuple[ComputeServer, threading.Thread], queue: JobQueue, held: Held
) -> None:
    job, other = a_job(held.item), a_job(good())
    entry = queue.enqueue(job)
    held.wait()
    queue.enqueue(other)
    running, thread = server
    running.stop()
    held.go_on()
    assert answered(queue, job, entry).items[0].vectors[MODEL]
    thread.join()
    assert queue.servers.alive() == []
    (lease,) = queue.reclaim("library", "another") or queue.lease("library", "another")
    assert lease.job.job_id == other.job_id


def test_job_for_another_model_comes_back_with_an_error(
    server: tuple[ComputeServer, threading.Thread], queue: JobQueue
) -> None:
    job = Job(new_job_id(), "query", ["another-model"], [good()])
    result = answered(queue, job, queue.enqueue(job))
    assert result.error is not None
    assert "another-model" in result.error.message


def test_queries_that_wait_are_run_in_full_batches_and_a_lone_one_at_once(
    redis_url: str, data_dir: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def run(inputs: Any, extractor: Any) -> Any:
        sizes.append(len(inputs))
        return infer(inputs, extractor)

    monkeypatch.setattr(batching, "infer", run)
    monkeypatch.setattr(server_module, "_COALESCE_S", 20.0)
    jobs = [a_job(good(number), "query") for number in range(3 * CPU_BATCH)]
    waiting = [(job, queue.enqueue(job)) for job in jobs]
    with serving(redis_url, data_dir):
        found = [answered(queue, *entry).items[0].vectors[MODEL] for entry in waiting]
        assert sizes == [CPU_BATCH] * 3
        lone = a_job(good(0), "query")
        alone = answered(queue, lone, queue.enqueue(lone)).items[0].vectors[MODEL]
        assert sizes[3:] == [1]
    # Each has its own vector, whatever it was run with.
    assert len({bytes(vector) for vector in found}) == len(jobs)
    one, other = (np.frombuffer(v, "<f4") for v in (found[0], alone))
    assert one @ other > 0.9999


def test_keeper_goes_on_after_an_error_that_nobody_foresaw(
    redis_url: str, data_dir: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(host: ModelHost) -> None:
        raise RuntimeError("the disk with the models is gone")

    monkeypatch.setattr(ModelHost, "unload_idle", fails)
    with serving(redis_url, data_dir, lease_s=0.4) as (running, _):
        for _ in range(2):
            until(queue.servers.alive)
            queue.servers.unregister(running.name)
        until(queue.servers.alive)


def test_server_does_not_end_before_its_warm_up_does(
    redis_url: str, data_dir: Path, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    ended_before: list[bool] = []

    def batch(host: ModelHost, spec: ModelSpec) -> int:
        begun.set()
        go_on.wait()
        ended.set()
        return CPU_BATCH

    monkeypatch.setattr(ModelHost, "batch", batch)
    monkeypatch.setattr(ModelHost, "close", lambda host: ended_before.append(ended.is_set()))
    with serving(redis_url, data_dir) as (running, thread):
        begun.wait()
        running.stop()
        until(lambda: [t.name for t in threading.enumerate() if t.name == "keeper"] == [])
        thread.join(0.5)  # that it does not end has no event
        go_on.set()
        thread.join()
    assert ended_before == [True]


def test_server_reports_the_times_of_its_stages(
    server: tuple[ComputeServer, threading.Thread], queue: JobQueue
) -> None:
    def stages() -> set[tuple[str, str]]:
        found = queue.servers.measures()
        return {(times.lane, times.stage) for times in found[0].stages} if found else set()

    # The clock of Redis is known from the second registration on; no wait is noted before.
    until(lambda: any(m.clock_ahead_s is not None for m in queue.servers.measures()))
    for stream in ("library", "query"):
        job = a_job(good(), stream)
        assert answered(queue, job, queue.enqueue(job)).error is None
    wanted = {
        (lane, stage)
        for lane in ("library", "query")
        for stage in ("queue_wait", "decode", "model", "deliver")
    }
    until(lambda: stages() >= wanted)
    (measured,) = queue.servers.measures()
    assert measured.vectors == {MODEL: 2}
    assert (measured.counts["images"], measured.counts["queries"]) == (1, 1)
    assert abs(measured.clock_ahead_s or 0.0) < 1.0  # the Redis is on this machine
    assert measured.resident_bytes > 0
    assert measured.cpu_s > 0
