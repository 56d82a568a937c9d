"""What stands in Redis and cannot be understood costs only the job it belongs to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from tests.contract.conftest import a_job, answer

from futu.jobs.admin import JobAdmin
from futu.jobs.message import DeadLetter, Job, encode
from futu.jobs.streams import JobQueue

SPOILT: dict[str, Callable[[redis.Redis, str], object]] = {
    "no message": lambda raw, key: raw.lset(key, 0, "no message"),
    "no list": lambda raw, key: (raw.delete(key), raw.set(key, b"text")),
}


def done_by(queue: JobQueue, jobs: list[Job]) -> None:
    for job in jobs:
        queue.enqueue(job)
    for lease in queue.lease("library", "a", count=len(jobs)):
        assert queue.deliver(lease, answer(lease.job))


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_answer_that_cannot_be_read_fails_its_own_job_only(
    queue: JobQueue, raw: redis.Redis, spoil: Callable[[redis.Redis, str], object]
) -> None:
    first, bad, last = jobs = [a_job(collect=True) for _ in range(3)]
    done_by(queue, jobs)
    spoil(raw, f"result:{bad.job_id}")
    finished = queue.done(10, 0.01)
    assert [done.job_id for done in finished] == [job.job_id for job in jobs]
    results = [done.result for done in finished]
    assert (results[0], results[2]) == (answer(first), answer(last))
    assert results[1] is not None
    assert results[1].error is not None
    assert results[1].error.code == "job_failed"
    queue.forget_done(finished)
    assert queue.done(10, 0.01) == []
    assert list(raw.scan_iter("result:*")) == []


def test_announcement_that_is_none_can_be_forgotten(queue: JobQueue, raw: redis.Redis) -> None:
    raw.xadd("futu:done", {"something": "else"})
    raw.xadd("futu:done", {"job_id": b"\xff"})
    job = a_job(collect=True)
    done_by(queue, [job])
    finished = queue.done(10, 0.01)
    assert [done.result for done in finished] == [None, None, answer(job)]
    queue.forget_done(finished)
    assert raw.xlen("futu:done") == 0


def test_jobs_are_listed_past_an_entry_that_is_none(queue: JobQueue, raw: redis.Redis) -> None:
    raw.xadd("library", {"job": b"\xc1 not msgpack"})
    job = a_job()
    queue.enqueue(job)
    assert [listed for _, listed in queue.unfinished("library")] == [job]


def test_servers_are_listed_past_one_that_cannot_be_understood(
    queue: JobQueue, raw: redis.Redis
) -> None:
    raw.set("futu:servers:other", b"\xc1", px=1000)
    assert queue.servers.alive() == []


def test_dead_letters_are_listed_past_one_that_cannot_be_understood(
    queue: JobQueue, raw: redis.Redis
) -> None:
    raw.xadd("futu:dead", {"letter": b"\xc1"})
    raw.xadd("futu:dead", {"something": "else"})
    letter = DeadLetter(a_job(), "died", "s", 1.0)
    raw.xadd("futu:dead", {"letter": encode(letter)})
    assert [dead.letter for dead in JobAdmin(queue).dead()] == [letter]
