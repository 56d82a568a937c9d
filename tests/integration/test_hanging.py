"""A decoder that hangs: only its picture fails, and everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import until
from tests.integration.test_compute_server import (
    LEASE_S,
    MODEL,
    Held,
    a_job,
    answered,
    good,
    serving,
)

from futu.jobs.admin import JobAdmin
from futu.jobs.message import ItemResult, Job, new_job_id
from futu.jobs.streams import JobQueue

TIMEOUT_S = 1.0


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    made = JobQueue(redis_url, lease_s=LEASE_S)
    yield made
    made.close()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Held]:
    """A picture that never comes, until the end of the test."""
    made = Held(tmp_path / "hangs.jpg")
    yield made
    made.end()


def put_aside(result: ItemResult) -> bool:
    return result.error is not None and result.error.code == "quarantined"


def test_job_over_which_a_decoder_hangs_is_done_apart_and_only_its_picture_is_put_aside(
    redis_url: str, tmp_path: Path, queue: JobQueue, hanging: Held
) -> None:
    with serving(redis_url, tmp_path, feature_timeout=TIMEOUT_S) as (server, _):
        items = [good(1), hanging.item, good(2)]
        job = Job(new_job_id(), "library", [MODEL], items)
        entry = queue.enqueue(job)
        until(lambda: server.abandoned == 1)
        # The only worker is stuck; the one in its place does what comes.
        other = a_job(good(3), "inline")
        assert answered(queue, other, queue.enqueue(other)).items[0].vectors[MODEL]

        def is_kept_until_it_is_done() -> bool:
            assert queue.reclaim("library", "other") == []
            return JobAdmin(queue).dead_count() > 0

        # While it is done apart, which takes longer than the lease, heartbeats keep it.
        until(is_kept_until_it_is_done, 60)
        first, second, third = answered(queue, job, entry).items
        assert put_aside(second)
        assert "hangs.jpg" in str(second.error)
        assert first.vectors[MODEL]
        assert third.vectors[MODEL]
        (letter,) = JobAdmin(queue).dead()
        assert [item.path for item in letter.letter.job.items] == [hanging.item.path]
        until(lambda: queue.depth()["library"] == 0)


def test_query_whose_decoder_hangs_holds_up_no_other_and_its_lane_lives_on(
    redis_url: str, tmp_path: Path, queue: JobQueue, hanging: Held
) -> None:
    jobs = [a_job(item, "query") for item in (good(1), hanging.item, good(2))]
    entries = [queue.enqueue(job) for job in jobs]
    with serving(redis_url, tmp_path, feature_timeout=2 * TIMEOUT_S) as (server, _):
        for n in (0, 2):
            assert answered(queue, jobs[n], entries[n]).items[0].vectors[MODEL]
        # They had not to wait until it was given up.
        assert server.abandoned == 0
        until(lambda: server.abandoned == 1)
        for number in range(4):
            query = a_job(good(number), "query")
            assert answered(queue, query, queue.enqueue(query)).items[0].vectors[MODEL]
        assert put_aside(answered(queue, jobs[1], entries[1]).items[0])
        assert server.abandoned == 1
