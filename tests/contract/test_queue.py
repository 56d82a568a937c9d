"""The job queue against real servers: the bundled Valkey and, where installed, Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.contract.conftest import LEASE_S, a_job, answer

from futu.errors import JobTimeoutError, QueueFullError, RedisUnavailableError
from futu.jobs.message import Job, ServerInfo, Stream
from futu.jobs.scripts import STREAMS
from futu.jobs.streams import MAX_WAITING, JobQueue, Lease


def until(poll: Callable[[], list[Lease]]) -> Lease:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := poll():
            return found[0]
    raise AssertionError("nothing came within 10 s")


@pytest.mark.parametrize("stream", STREAMS)
def test_job_goes_to_one_worker_and_its_answer_back(queue: JobQueue, stream: Stream) -> None:
    job = a_job(stream)
    entry = queue.enqueue(job)
    (lease,) = queue.lease(job.stream, "a")
    assert queue.lease(job.stream, "b") == []
    assert lease.job == job
    assert queue.deliver(lease, answer(job))
    assert queue.wait_result(job, entry, 1) == answer(job)


def test_after_work_nothing_is_left_in_redis(queue: JobQueue, raw: redis.Redis) -> None:
    waited, collected = a_job(), a_job(collect=True)
    entry = queue.enqueue(waited)
    queue.enqueue(collected)
    for lease in queue.lease("library", "a", count=9):
        assert queue.deliver(lease, answer(lease.job))
    queue.wait_result(waited, entry, 1)
    queue.forget_done(queue.done(10))
    assert set(queue.depth().values()) == {0}
    assert raw.xpending("library", "compute")["pending"] == 0
    assert list(raw.scan_iter("result:*")) == []
    assert raw.xlen("futu:done") == 0


def test_worker_waits_for_a_job_without_asking_again(queue: JobQueue) -> None:
    job = a_job()
    timer = threading.Timer(0.05, queue.enqueue, [job])
    timer.start()
    (lease,) = queue.lease("library", "a", block_s=5)
    timer.join()
    assert lease.job.job_id == job.job_id


def test_collected_result_stays_until_it_is_forgotten(queue: JobQueue) -> None:
    job = a_job(collect=True)
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    assert queue.deliver(lease, answer(job))
    first, again = queue.done(10), queue.done(10)
    assert first == again
    assert [d.result for d in first] == [answer(job)]
    queue.forget_done(first)
    queue.forget_done(first)
    assert queue.done(10) == []


def test_expired_result_is_announced_as_gone(queue: JobQueue, raw: redis.Redis) -> None:
    job = a_job(collect=True)
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    queue.deliver(lease, answer(job))
    assert 0 < raw.ttl(f"result:{job.job_id}") <= 60
    raw.delete(f"result:{job.job_id}")
    (done,) = queue.done(10)
    assert (done.job_id, done.result) == (job.job_id, None)


def test_expired_lease_goes_to_another_worker_and_the_first_is_refused(queue: JobQueue) -> None:
    job = a_job()
    entry = queue.enqueue(job)
    (first,) = queue.lease("library", "a")
    second = until(lambda: queue.reclaim("library", "b"))
    assert second.job == job
    assert not queue.heartbeat(first)
    assert not queue.release(first)
    assert not queue.deliver(first, answer(job, "a"))
    assert queue.deliver(second, answer(job, "b"))
    assert not queue.deliver(second, answer(job, "b"))
    assert queue.wait_result(job, entry, 1).server == "b"


def test_heartbeat_keeps_the_lease(queue: JobQueue) -> None:
    queue.enqueue(a_job())
    (lease,) = queue.lease("library", "a")
    end = time.monotonic() + 3 * LEASE_S
    while time.monotonic() < end:
        assert queue.heartbeat(lease)
        assert queue.reclaim("library", "b") == []
    assert until(lambda: queue.reclaim("library", "b")).entry_id == lease.entry_id


def test_released_job_is_taken_over_at_once(queue: JobQueue) -> None:
    job = a_job()
    queue.enqueue(job)
    (lease,) = queue.lease("library", "a")
    assert queue.release(lease)
    (again,) = queue.reclaim("library", "b")
    assert again.job == job


def test_timeout_withdraws_the_job_and_a_late_answer_leaves_no_key(
    queue: JobQueue, raw: redis.Redis
) -> None:
    job = a_job("query")
    entry = queue.enqueue(job)
    (lease,) = queue.lease("query", "a")
    with pytest.raises(JobTimeoutError, match=r"0\.05 s"):
        queue.wait_result(job, entry, 0.05)
    assert not queue.deliver(lease, answer(job))
    assert raw.xlen("query") == 0
    assert list(raw.scan_iter("result:*")) + list(raw.scan_iter("lock:*")) == []


def answer_next(queue: JobQueue) -> threading.Thread:
    """A worker for one query."""

    def work() -> None:
        (lease,) = queue.lease("query", "a", block_s=5)
        queue.deliver(lease, answer(lease.job))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_caller_asks_and_has_the_answer_and_nothing_is_left(
    queue: JobQueue, raw: redis.Redis
) -> None:
    job = a_job("query", data=b"x" * 50_000)
    worker = answer_next(queue)
    assert queue.ask(job, 5) == answer(job)
    worker.join()
    assert raw.xlen("query") == 0
    assert list(raw.scan_iter("result:*")) + list(raw.scan_iter("lock:*")) == []


def test_caller_who_asks_in_vain_withdraws_the_job(queue: JobQueue, raw: redis.Redis) -> None:
    with pytest.raises(JobTimeoutError, match=r"0\.05 s"):
        queue.ask(a_job("query"), 0.05)
    assert raw.xlen("query") == 0


def test_job_sent_twice_because_a_reply_was_lost_leaves_one_answer_and_no_key(
    queue: JobQueue, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job("query")

    def lost(job: Job, *_: Any) -> Any:
        queue.enqueue(job)
        raise redis.ConnectionError("cut off after the command had arrived")

    monkeypatch.setattr(queue, "_ask_once", lost)
    assert queue.lease("query", "b") == []
    worker = answer_next(queue)
    assert queue.ask(job, 5) == answer(job)
    worker.join()
    assert raw.xlen("query") == 0
    assert list(raw.scan_iter("result:*")) == []


def test_withdrawn_job_leaves_nothing_even_when_its_answer_came_first(
    queue: JobQueue, raw: redis.Redis
) -> None:
    job = a_job("query")
    entry = queue.enqueue(job)
    (lease,) = queue.lease("query", "a")
    assert queue.deliver(lease, answer(job))
    queue.withdraw(job, entry)
    assert list(raw.scan_iter("result:*")) == []


def test_answer_lost_with_its_connection_is_computed_again(
    queue: JobQueue, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job("query")
    sent = queue._ask_once
    assert queue.lease("query", "b") == []
    workers = [answer_next(queue)]

    def lost(*arguments: Any) -> Any:
        _, reply = sent(*arguments)
        assert reply is not None
        workers.append(answer_next(queue))
        raise redis.ConnectionError("cut off after the answer was on its way")

    monkeypatch.setattr(queue, "_ask_once", lost)
    assert queue.ask(job, 5) == answer(job)
    for worker in workers:
        worker.join()
    assert raw.xlen("query") == 0
    assert list(raw.scan_iter("result:*")) == []


def test_full_stream_refuses(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAX_WAITING, "query", 3)
    for _ in range(3):
        queue.enqueue(a_job("query"))
    with pytest.raises(QueueFullError, match="queue query is full"):
        queue.enqueue(a_job("query"))
    queue.enqueue(a_job("library"))


def test_group_that_redis_forgot_is_made_again(queue: JobQueue, raw: redis.Redis) -> None:
    queue.enqueue(a_job())
    (lease,) = queue.lease("library", "a")
    raw.flushall()
    assert not queue.heartbeat(lease)
    assert not queue.deliver(lease, answer(lease.job))
    assert list(raw.scan_iter("result:*")) == []
    assert queue.reclaim("library", "a") == []
    job = a_job()
    queue.enqueue(job)
    assert [x.job.job_id for x in queue.lease("library", "a")] == [job.job_id]


def test_entry_that_is_no_job_is_dropped(queue: JobQueue, raw: redis.Redis) -> None:
    raw.xadd("library", {"job": b"\xc1 not msgpack"})
    raw.xadd("library", {"something": "else"})
    job = a_job()
    queue.enqueue(job)
    leases = queue.lease("library", "a", count=10)
    assert [x.job.job_id for x in leases] == [job.job_id]
    assert raw.xlen("library") == 1


def test_unfinished_lists_waiting_and_leased_jobs(queue: JobQueue) -> None:
    jobs = [a_job(), a_job()]
    for job in jobs:
        queue.enqueue(job)
    queue.lease("library", "a")
    assert [job for _, job in queue.unfinished("library")] == jobs


def test_server_is_listed_while_it_repeats_itself(queue: JobQueue, raw: redis.Redis) -> None:
    info = ServerInfo("s1", "host", 7, ["m"], 2, time.time())
    queue.servers.register(info)
    assert queue.servers.alive() == [info]
    assert 0 < raw.pttl("futu:servers:s1") <= 1000
    queue.lease("library", "s1-a")
    queue.servers.unregister("s1")
    assert queue.servers.alive() == []
    queue.retire(["s1-a"])
    assert raw.xinfo_consumers("library", "compute") == []


def test_redis_that_is_away_names_itself_without_its_password(tmp_path: Path) -> None:
    queue = JobQueue("redis://:topsecret@127.0.0.1:9/0")
    with pytest.raises(RedisUnavailableError) as caught:
        queue.ping()
    assert "127.0.0.1:9" in str(caught.value)
    assert "topsecret" not in str(caught.value)
    queue.close()
