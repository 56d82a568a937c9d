"""Locks of queries: asked for without waiting, in order with what is done about the query next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from tests.contract.conftest import a_job, answer

from futu.jobs.exchange import Command, Exchange, Unread
from futu.jobs.scripts import STREAMS
from futu.jobs.streams import JobQueue, Lease


def test_leased_query_is_locked_without_waiting_until_it_is_delivered(
    queue: JobQueue, raw: redis.Redis
) -> None:
    job = a_job("query")
    queue.enqueue(job)
    (lease,) = queue.lease("query", "a")
    assert queue.lease("query", "a") == []
    assert queue.locks.owner(job.job_id) == lease.owner
    assert queue.deliver_all([(lease, answer(job))]) == [True]
    assert list(raw.scan_iter("lock:*")) == []


def deliver_alone(queue: JobQueue, lease: Lease) -> bool:
    return queue.deliver(lease, answer(lease.job))


def deliver_together(queue: JobQueue, lease: Lease) -> bool:
    return queue.deliver_all([(lease, answer(lease.job))]) == [True]


@pytest.mark.parametrize("deliver", [deliver_alone, deliver_together])
def test_query_that_stands_twice_is_delivered_by_who_has_its_lock(
    queue: JobQueue, raw: redis.Redis, deliver: Callable[[JobQueue, Lease], bool]
) -> None:
    job = a_job("query")
    queue.enqueue(job)
    queue.enqueue(job)
    (first,), (second,) = queue.lease("query", "a"), queue.lease("query", "b")
    queue.locks.settle("a")
    assert not deliver(queue, second)
    assert queue.depth()["query"] == 1
    assert list(raw.scan_iter("result:*")) == []
    assert deliver(queue, first)
    assert queue.depth()["query"] == 0
    assert list(raw.scan_iter("lock:*")) == []


@pytest.mark.parametrize("deliver", [deliver_alone, deliver_together])
def test_result_is_delivered_though_its_lock_has_run_out(
    queue: JobQueue, raw: redis.Redis, deliver: Callable[[JobQueue, Lease], bool]
) -> None:
    for stream in STREAMS:
        job = a_job(stream)
        queue.enqueue(job)
        (lease,) = queue.lease(stream, "a")
        queue.locks.settle("a")
        raw.delete(f"lock:{job.job_id}")
        assert deliver(queue, lease)
        assert queue.depth()[stream] == 0


def give_back(queue: JobQueue, lease: Lease) -> bool:
    return queue.release(lease)


class LateExchange(Exchange):
    """What is sent without waiting arrives only when somebody waits for it."""

    kept: tuple[Command, ...] = ()

    def send(self, *commands: Command) -> Unread:
        self.kept = commands
        return super().send(*(("PING",) for _ in commands))

    def __call__(self, *commands: Command, again: bool, after: Unread | None = None) -> list[Any]:
        if after is not None:
            super().__call__(*self.kept, again=True)
        return super().__call__(*commands, again=again, after=after)


@pytest.mark.parametrize("let_go", [deliver_alone, deliver_together, give_back])
def test_lock_of_a_query_that_arrives_late_is_not_left_behind(
    queue: JobQueue, raw: redis.Redis, let_go: Callable[[JobQueue, Lease], bool]
) -> None:
    queue.locks._exchange = LateExchange(queue.redis)
    queue.enqueue(a_job("query"))
    (lease,) = queue.lease("query", "a")
    assert let_go(queue, lease)
    assert queue.lease("query", "a") == []
    assert list(raw.scan_iter("lock:*")) == []


def test_queries_that_are_never_delivered_take_no_connections(
    queue: JobQueue, raw: redis.Redis
) -> None:
    before = 0
    for number in range(4):
        queue.enqueue(a_job("query"))
        assert len(queue.lease("query", "a")) == 1
        if number == 0:
            before = raw.info("clients")["connected_clients"]
    assert raw.info("clients")["connected_clients"] <= before + 1


def test_query_is_delivered_though_the_connection_of_its_lock_was_cut(
    queue: JobQueue, raw: redis.Redis
) -> None:
    for _ in range(2):
        queue.enqueue(a_job("query"))
    (first, second) = queue.lease("query", "a", count=2)
    raw.client_kill_filter(_type="normal", skipme=True)
    assert queue.deliver_all([(first, answer(first.job))]) == [True]
    assert queue.deliver_all([(second, answer(second.job))]) == [True]
    assert queue.depth()["query"] == 0


@pytest.mark.parametrize("check_due", [False, True])
def test_query_that_took_long_is_delivered_though_its_connection_is_to_be_checked(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, check_due: bool
) -> None:
    queue.enqueue(a_job("query"))
    withdrawn = a_job("query")
    entry = queue.enqueue(withdrawn)
    leases = queue.lease("query", "a", count=2)
    queue.withdraw(withdrawn, entry)
    if check_due:
        queue.locks._asked["a"].connection.next_health_check = 0
    monkeypatch.setattr("futu.jobs.exchange._FRESH_S", -1.0)
    answers = [(lease, answer(lease.job)) for lease in leases]
    assert queue.deliver_all(answers) == [True, False]


def test_connection_closed_while_idle_is_noticed_before_it_is_used(
    queue: JobQueue, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert queue._exchange.one("PING", again=False) == b"PONG"
    raw.client_kill_filter(_type="normal", skipme=True)
    monkeypatch.setattr("futu.jobs.exchange._FRESH_S", -1.0)
    assert queue._exchange.one("PING", again=False) == b"PONG"
