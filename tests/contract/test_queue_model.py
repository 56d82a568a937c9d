"""The queue against a simple model of it, in every order that Hypothesis can think of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.contract.conftest import a_job, answer

from futu.jobs.message import Job, Stream
from futu.jobs.streams import JobQueue, Lease

LEASE_S = 3600.0
WORKERS = ("a", "b", "c")
workers = st.sampled_from(WORKERS)


class QueueMachine(RuleBasedStateMachine):
    """Jobs wait, are held by one worker, may be silent, are done once."""

    url: str
    stream: Stream
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue(self.url, lease_s=LEASE_S)
        self.queue.redis.flushall()
        self.waiting: list[Job] = []
        self.held: dict[str, Lease] = {}
        self.silent: list[str] = []
        self.done: list[str] = []

    def teardown(self) -> None:
        self.queue.close()

    def _current(self, lease: Lease) -> bool:
        """Whether a lease, perhaps an old one, is still the one that counts."""
        held = self.held.get(lease.job.job_id)
        return held is not None and held.consumer == lease.consumer

    @rule()
    def enqueue(self) -> None:
        job = a_job(self.stream, collect=True)
        self.queue.enqueue(job)
        self.waiting.append(job)

    @rule(target=leases, worker=workers)
    def lease(self, worker: str) -> Any:
        found = self.queue.lease(self.stream, worker)
        assert [lease.job for lease in found] == self.waiting[:1]
        del self.waiting[:1]
        self.held.update({lease.job.job_id: lease for lease in found})
        return found[0] if found else None

    @rule(lease=leases)
    def heartbeat(self, lease: Lease | None) -> None:
        if lease is not None:
            assert self.queue.heartbeat(lease) == self._current(lease)
            if self._current(lease) and lease.job.job_id in self.silent:
                self.silent.remove(lease.job.job_id)

    @rule(lease=leases)
    def fall_silent(self, lease: Lease | None) -> None:
        """As if the lease time had passed: the entry is idle for long, the lock has run out."""
        if lease is None or not self._current(lease) or lease.job.job_id in self.silent:
            return
        idle = int(LEASE_S * 1000) + 1
        self.queue.redis.xclaim(
            self.stream, "compute", lease.consumer, 0, [lease.entry_id], idle=idle, justid=True
        )
        self.queue.redis.delete(f"lock:{lease.job.job_id}")
        self.silent.append(lease.job.job_id)

    @rule(lease=leases)
    def give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            assert self.queue.release(lease) == self._current(lease)
            if self._current(lease) and lease.job.job_id not in self.silent:
                self.silent.append(lease.job.job_id)

    @rule(target=leases, worker=workers)
    def reclaim(self, worker: str) -> Any:
        found = self.queue.reclaim(self.stream, worker)
        assert bool(found) == bool(self.silent)
        for lease in found:
            self.silent.remove(lease.job.job_id)
            self.held[lease.job.job_id] = lease
        return found[0] if found else None

    @rule(lease=leases)
    def deliver(self, lease: Lease | None) -> None:
        if lease is None:
            return
        (delivered,) = self.queue.deliver_all([(lease, answer(lease.job, lease.consumer))])
        assert delivered == self._current(lease)
        if delivered:
            del self.held[lease.job.job_id]
            self.done.append(lease.job.job_id)
            if lease.job.job_id in self.silent:
                self.silent.remove(lease.job.job_id)

    @rule()
    def collect(self) -> None:
        finished = self.queue.done(1000)
        assert [done.job_id for done in finished] == self.done
        self.queue.forget_done(finished)
        self.done.clear()

    @invariant()
    def every_job_is_somewhere_once(self) -> None:
        jobs = [job.job_id for _, job in self.queue.unfinished(self.stream)]
        assert sorted(jobs) == sorted([*self.held, *(job.job_id for job in self.waiting)])

    @invariant()
    def only_held_jobs_are_locked(self) -> None:
        locked = {key.decode()[5:] for key in self.queue.redis.scan_iter("lock:*")}
        assert locked == set(self.held) - set(self.silent)


@pytest.mark.parametrize("stream", ["query", "library"])
def test_queue_behaves_as_its_model(redis_url: str, stream: Stream) -> None:
    machine = type("Machine", (QueueMachine,), {"url": redis_url, "stream": stream})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
