"""Locks on jobs, jobs sent twice, dead letters, bounds in bytes: what part of the queue guards."""

from __future__ import annotations

import time

import pytest
import redis
from tests.contract.conftest import LEASE_S, a_job, answer

from futu.errors import QueueFullError
from futu.jobs.admin import JobAdmin
from futu.jobs.message import DeadLetter, JobResult, Stream
from futu.jobs.streams import JobQueue


def letter(job_id: str) -> DeadLetter:
    job = a_job()
    job.job_id = job_id
    return DeadLetter(job, "it was killed", "s", time.time())


def test_lock_has_one_owner_and_a_ttl(queue: JobQueue, raw: redis.Redis) -> None:
    locks = queue.locks
    assert locks.acquire_lock("j", "a")
    assert not locks.acquire_lock("j", "b")
    assert locks.is_locked("j")
    assert locks.owner("j") == "a"
    assert 0 < raw.pttl("lock:j") <= LEASE_S * 1000
    assert not locks.release_lock("j", "b")
    assert locks.release_lock("j", "a")
    assert not locks.is_locked("j")


def test_locks_of_several_jobs_are_taken_in_one_exchange(queue: JobQueue) -> None:
    queue.locks.acquire_lock("2", "other")
    assert queue.locks.acquire_all([("1", "a"), ("2", "a"), ("3", "a")]) == [True, False, True]
    assert queue.locks.owner("2") == "other"


def test_leased_job_is_locked_until_it_is_delivered(queue: JobQueue) -> None:
    job = a_job()
    queue.enqueue(job)
    assert not queue.locks.is_locked(job.job_id)
    (lease,) = queue.lease("library", "a")
    assert queue.locks.owner(job.job_id) == lease.owner
    assert queue.deliver(lease, answer(job))
    assert not queue.locks.is_locked(job.job_id)


def test_heartbeat_keeps_the_lock(queue: JobQueue, raw: redis.Redis) -> None:
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    raw.pexpire(f"lock:{job.job_id}", 50)
    assert queue.heartbeat(lease)
    assert raw.pttl(f"lock:{job.job_id}") > 50


def test_heartbeat_of_a_delivered_job_leaves_no_lock(queue: JobQueue) -> None:
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    assert queue.deliver(lease, answer(job))
    assert not queue.heartbeat(lease)
    assert not queue.locks.is_locked(job.job_id)


def test_heartbeat_takes_no_lock_that_is_another_s(queue: JobQueue, raw: redis.Redis) -> None:
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    raw.set(f"lock:{job.job_id}", "other")
    assert queue.heartbeat(lease)
    assert queue.locks.owner(job.job_id) == "other"
    raw.delete(f"lock:{job.job_id}")
    assert queue.heartbeat(lease)
    assert queue.locks.owner(job.job_id) == lease.owner


def test_job_sent_twice_is_done_once(queue: JobQueue) -> None:
    job = a_job()
    queue.enqueue(job)
    queue.enqueue(job)
    (first,) = queue.lease("library", "a")
    assert queue.lease("library", "b") == []
    assert queue.depth()["library"] == 1
    assert queue.deliver(first, answer(job))
    assert queue.depth()["library"] == 0


@pytest.mark.parametrize("stream", ["query", "library"])
def test_job_sent_twice_and_leased_at_once_is_held_once(queue: JobQueue, stream: Stream) -> None:
    job, other = a_job(stream), a_job(stream)
    for sent in (job, other, job):
        queue.enqueue(sent)
    held = queue.lease(stream, "a", count=9)
    assert [lease.job.job_id for lease in held] == [job.job_id, other.job_id]
    assert queue.depth()[stream] == 2


def test_whoever_takes_a_job_over_takes_its_lock_over(queue: JobQueue, raw: redis.Redis) -> None:
    job = a_job()
    queue.enqueue(job)
    (first,) = queue.lease("library", "a")
    silent_ms = int(LEASE_S * 1000) + 1
    raw.xclaim("library", "compute", "a", 0, [first.entry_id], idle=silent_ms, justid=True)
    assert queue.locks.is_locked(job.job_id)
    (second,) = queue.reclaim("library", "b")
    assert queue.locks.owner(job.job_id) == second.owner
    assert not queue.deliver(first, answer(job, "a"))
    assert queue.locks.owner(job.job_id) == second.owner
    assert queue.deliver(second, answer(job, "b"))


def test_redis_that_forgot_its_scripts_takes_answers(queue: JobQueue, raw: redis.Redis) -> None:
    for job in (a_job(), a_job()):
        queue.enqueue(job)
    leases = queue.lease("library", "a", count=2)
    raw.script_flush()
    assert queue.deliver_all([(lease, answer(lease.job)) for lease in leases]) == [True, True]


def test_silent_job_behind_many_live_ones_is_taken_over(queue: JobQueue, raw: redis.Redis) -> None:
    for _ in range(40):
        queue.enqueue(a_job())
    leases = queue.lease("library", "a", count=40)
    silent_ms = int(LEASE_S * 1000) + 1
    raw.xclaim("library", "compute", "a", 0, [leases[-1].entry_id], idle=silent_ms, justid=True)
    for lease in leases[:-1]:
        assert queue.heartbeat(lease)
    (taken,) = queue.reclaim("library", "b")
    assert taken.entry_id == leases[-1].entry_id


def test_deliveries_are_counted(queue: JobQueue) -> None:
    queue.enqueue(a_job())
    (lease,) = queue.lease("library", "a")
    assert lease.deliveries == 1
    for wanted in (2, 3, 4):
        assert queue.heartbeat(lease)
        assert queue.release(lease)
        (lease,) = queue.reclaim("library", "a")
        assert lease.deliveries == wanted


def test_job_given_back_with_a_delay_is_not_taken_before(queue: JobQueue) -> None:
    queue.enqueue(a_job())
    (lease,) = queue.lease("library", "a")
    assert queue.release(lease, delay_s=LEASE_S)
    assert queue.reclaim("library", "b") == []
    assert not queue.locks.is_locked(lease.job.job_id)


def test_several_jobs_are_delivered_together_each_for_itself(queue: JobQueue) -> None:
    jobs = [a_job() for _ in range(3)]
    entries = [queue.enqueue(job) for job in jobs]
    leases = queue.lease("library", "a", count=3)
    queue.withdraw(jobs[1], entries[1])
    delivered = queue.deliver_all([(lease, answer(lease.job)) for lease in leases])
    assert delivered == [True, False, True]


def test_pictures_travel_with_their_job_and_are_not_listed(queue: JobQueue) -> None:
    data = bytes(range(256)) * 100
    job = a_job("inline", data=data)
    queue.enqueue(job)
    ((_, listed),) = queue.unfinished("inline")
    assert listed.items[0].data is None
    assert listed.items[0].content_hash == job.items[0].content_hash
    (lease,) = queue.lease(["library", "inline"], "a")
    assert lease.stream == "inline"
    assert lease.job == job


def test_stream_refuses_what_is_over_its_bytes_but_never_a_single_job(
    queue: JobQueue, url: str
) -> None:
    small = JobQueue(url, lease_s=LEASE_S, max_bytes=100_000)
    try:
        large = a_job("inline", data=bytes(150_000))
        small.enqueue(large)
        with pytest.raises(QueueFullError, match="100,000 bytes"):
            small.enqueue(a_job("inline", data=bytes(10)))
        (lease,) = small.lease("inline", "a")
        small.deliver(lease, answer(large))
        for _ in range(2):
            small.enqueue(a_job("inline", data=bytes(40_000)))
        with pytest.raises(QueueFullError):
            small.enqueue(a_job("inline", data=bytes(40_000)))
        small.enqueue(a_job("library"))
    finally:
        small.close()


def test_dead_letters_are_written_with_the_answer_or_not_at_all(queue: JobQueue) -> None:
    admin = JobAdmin(queue)
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    nobody = JobResult(job.job_id, "s", [])
    assert queue.deliver(lease, nobody, [letter(job.job_id)])
    assert not queue.deliver(lease, nobody, [letter(job.job_id)])
    (dead,) = admin.dead()
    assert (dead.letter.job.job_id, dead.letter.reason) == (job.job_id, "it was killed")
    assert admin.dead_count() == 1
    admin.forget_dead([dead.entry_id])
    assert admin.dead() == []


def test_jobs_are_listed_with_their_holders(queue: JobQueue) -> None:
    live, waiting = a_job(), a_job()
    queue.enqueue(live)
    queue.lease("library", "a")
    queue.enqueue(waiting)
    first, second = JobAdmin(queue).jobs()
    assert (first.job, first.consumer, first.deliveries) == (live, "a", 1)
    assert (second.job, second.consumer) == (waiting, None)


def test_clearing_stale_locks_touches_nothing_else(queue: JobQueue, raw: redis.Redis) -> None:
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    raw.set("lock:left-behind", "1-1 nobody")
    raw.set("result:unread", "x")
    raw.set("somebody-else", "x")
    assert JobAdmin(queue).clear_stale_locks() == 1
    assert queue.locks.owner(job.job_id) == lease.owner
    assert raw.exists("result:unread", "somebody-else") == 2
    assert not raw.exists("lock:left-behind")
