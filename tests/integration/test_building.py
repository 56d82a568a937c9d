"""Builds, with a compute server that the test plays: what is lost, late, mixed up or refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.integration.played import (
    MODEL_ID,
    a_dataset,
    ended,
    make_controller,
    next_job,
    register,
    result,
    result_of,
    settled,
    under_way,
    vector_of,
    work,
    work_once,
)

from futu.controller import outbox
from futu.controller.service import Controller
from futu.jobs.message import ImageItem, Job, Stream, new_job_id


@pytest.fixture
def controller(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Controller]:
    """Started; it looks often for what Redis has lost."""
    monkeypatch.setattr(outbox, "_STALL_CHECK_S", 0.05)
    made = make_controller(tmp_path, redis_url, batch_size=2, queue_bytes=1024 * 1024)
    made.start()
    register(made)
    yield made
    made.stop()


def stored(controller: Controller, job: Job) -> dict[bytes, np.ndarray[tuple[int], np.dtype]]:
    """The vectors that the catalogue has for the contents of a job."""
    hashes = [item.content_hash for item in job.items if item.content_hash]
    ids = controller.catalogue.vector_ids(hashes, MODEL_ID)
    by_id = {
        int(vector_id): vector
        for chunk, vectors in controller.catalogue.vectors(list(ids.values()))
        for vector_id, vector in zip(chunk, vectors)
    }
    return {digest: by_id[vector_id] for digest, vector_id in ids.items()}


def test_vector_is_never_given_to_another_picture(controller: Controller) -> None:
    dataset = a_dataset(controller, "two", 2)
    controller.ingest.start(dataset)
    # Twice: what a server seems not to see comes again with its bytes.
    for stream in ("library", "inline"):
        lease = next_job(controller, stream)
        first, second = (result_of(item) for item in lease.job.items)
        assert controller.queue.deliver(lease, result(lease.job, [second, first]))
    progress = ended(controller, dataset)
    assert (progress["added"], progress["failed"]) == (0, 2)
    assert stored(controller, lease.job) == {}
    controller.ingest.start(dataset)
    assert work(controller, dataset)["added"] == 2
    vectors = stored(controller, lease.job)
    assert len(vectors) == 2
    for digest, vector in vectors.items():
        assert np.allclose(vector, vector_of(digest), atol=1e-3)


def test_results_stay_in_redis_until_the_catalogue_has_them(
    controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    file = controller.settings.data_dir / "catalogue.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON vectors "
            "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
        dataset = a_dataset(controller, "kept", 2)
        controller.ingest.start(dataset)
        lease = next_job(controller)
        assert controller.queue.deliver(lease, result(lease.job))
        until(lambda: "could not be stored" in caplog.text)
        (done,) = controller.queue.done(10, 0.01)
        assert done.result == result(lease.job)
        other.execute("DROP TRIGGER full")
    assert ended(controller, dataset)["added"] == 2
    assert controller.queue.depth()["library"] == 0
    until(lambda: controller.queue.done(10, 0.01) == [])


def test_jobs_that_redis_forgot_are_sent_again(controller: Controller) -> None:
    dataset = a_dataset(controller, "forgotten", 2)
    controller.ingest.start(dataset)
    lost = next_job(controller)
    controller.queue.redis.flushall()
    register(controller)
    again = next_job(controller)
    assert again.job == lost.job
    assert not controller.queue.deliver(lost, result(lost.job))
    assert controller.queue.deliver(again, result(again.job))
    assert ended(controller, dataset)["added"] == 2


def test_result_that_expired_is_computed_again(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_STALL_CHECK_S", 0.05)
    controller = make_controller(tmp_path, redis_url)
    try:
        dataset = a_dataset(controller, "expired", 2)
        controller.ingest.start(dataset)
        lease = next_job(controller)
        assert controller.queue.deliver(lease, result(lease.job))
        controller.queue.redis.delete(f"result:{lease.job.job_id}")
        controller.collector.start()
        assert work(controller, dataset)["added"] == 2
    finally:
        controller.stop()


def test_build_has_a_bounded_number_of_jobs_on_the_way(controller: Controller) -> None:
    most = outbox._WINDOW_JOBS
    dataset = a_dataset(controller, "long", 4 * most)
    controller.ingest.start(dataset)
    depths = [settled(lambda: controller.queue.depth()["library"])]
    while under_way(controller, dataset):
        work_once(controller)
        depths.append(controller.queue.depth()["library"])
    assert max(depths) == depths[0] == most
    assert controller.ingest.progress(dataset)["added"] == 4 * most


def test_build_has_a_bounded_number_of_bytes_on_the_way(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = 500_000
    monkeypatch.setattr(outbox, "_INLINE_WINDOW_BYTES", window)
    dataset = a_dataset(controller, "heavy", 40, padding=100_000)
    register(controller, by_path=False)
    controller.ingest.start(dataset)
    used = [settled(lambda: memory_of(controller, "inline"))]
    while under_way(controller, dataset):
        register(controller, by_path=False)
        work_once(controller)
        used.append(memory_of(controller, "inline"))
    assert window - 200_000 < max(used) < window + 100_000
    assert controller.ingest.progress(dataset)["added"] == 40


def memory_of(controller: Controller, stream: Stream) -> int:
    used: Any = controller.queue.redis.memory_usage(stream, samples=0)
    return int(used or 0)


def test_build_waits_while_the_queue_is_full_and_says_so(controller: Controller) -> None:
    other = ImageItem(data=bytes(2 * 1024 * 1024), name="of another controller")
    job = Job(new_job_id(), "library", [MODEL_ID], [other])
    entry_id = controller.queue.enqueue(job)
    dataset = a_dataset(controller, "pauses", 4)
    controller.ingest.start(dataset)
    until(lambda: "library is full" in controller.ingest.progress(dataset)["message"])
    assert controller.queue.depth()["library"] == 1
    assert controller.ingest.progress(dataset)["state"] == "building"
    controller.queue.withdraw(job, entry_id)
    assert work(controller, dataset)["added"] == 4
    assert "full" not in controller.ingest.progress(dataset)["message"]


def test_work_waits_for_a_compute_server_and_none_of_it_is_dropped(
    controller: Controller,
) -> None:
    controller.queue.servers.unregister("s")
    dataset = a_dataset(controller, "alone", 6)
    controller.ingest.start(dataset)
    until(lambda: "no compute server" in controller.ingest.progress(dataset)["message"])
    assert controller.ingest.progress(dataset)["state"] == "building"
    assert controller.queue.depth()["library"] == 3
    register(controller)
    until(lambda: controller.ingest.progress(dataset)["message"] == "0 of 6 images, 0 failed.")
    assert work(controller, dataset)["added"] == 6


def test_cancelled_build_takes_its_jobs_back(controller: Controller) -> None:
    dataset = a_dataset(controller, "cancelled", 6)
    controller.ingest.start(dataset)
    lease = next_job(controller)
    until(lambda: controller.queue.depth()["library"] == 3)
    assert controller.ingest.cancel(dataset)
    assert ended(controller, dataset)["state"] == "cancelled"
    until(lambda: controller.queue.depth()["library"] == 0)
    assert not controller.queue.deliver(lease, result(lease.job))


def test_answer_of_a_wrong_length_fails_its_pictures_with_a_reason(controller: Controller) -> None:
    dataset = a_dataset(controller, "short", 2)
    controller.ingest.start(dataset)
    lease = next_job(controller)
    assert controller.queue.deliver(lease, result(lease.job, [result_of(lease.job.items[0])]))
    assert ended(controller, dataset)["failed"] == 2
    failures = controller.catalogue.failures(dataset.id)
    assert [(failure.code, bool(failure.error)) for failure in failures] == [
        ("job_failed", True)
    ] * 2


@pytest.mark.parametrize("by_path", [True, False])
def test_next_controller_goes_on_with_the_jobs_of_the_one_before(
    tmp_path: Path, redis_url: str, by_path: bool
) -> None:
    first = make_controller(tmp_path, redis_url)
    dataset = a_dataset(first, "handed over", 4)
    register(first, by_path=by_path)
    first.ingest.start(dataset)
    lease = next_job(first)
    first.stop()
    second = make_controller(tmp_path, redis_url)
    try:
        second.start()
        if by_path:
            until(lambda: second.ingest.build_of(lease.job.job_id))
        else:
            # Their bytes are not kept in two places: the job is withdrawn and sent anew.
            old, lease = lease, next_job(second, "inline")
            assert not second.queue.deliver(old, result(old.job))
        assert second.queue.deliver(lease, result(lease.job))
        progress = ended(second, dataset)
        assert (progress["state"], progress["added"]) == ("done", 4)
        # Nothing was sent a second time.
        assert set(second.queue.depth().values()) == {0}
    finally:
        second.stop()
