"""Futu's queue: a worker process of two threads, and a producer."""

from __future__ import annotations

import os
import sys
import threading
import time

from benchmarks.peers import produce

from futu.jobs.message import ImageItem, ItemResult, Job, JobResult, Stream, new_job_id
from futu.jobs.streams import JobQueue, Lease

_ANSWER = produce.REPLY.encode()
_AT_ONCE = 16


class Worker:
    """Two threads that lease and deliver; a third that sends heartbeats."""

    def __init__(self) -> None:
        self._queue = JobQueue(produce.URL)
        self._held: dict[bytes, Lease] = {}
        # As a compute server does: queries several at a time, jobs of datasets one by one.
        slow = bool(os.environ.get("BENCHMARK_SLOW"))
        self._stream: Stream = "library" if slow else "query"
        self._at_once = 1 if slow else _AT_ONCE

    def run(self) -> None:
        """Work until killed."""
        for number in range(2):
            threading.Thread(target=self._work, args=(f"w{time.time_ns()}-{number}",)).start()
        while True:
            for lease in list(self._held.values()):
                self._queue.heartbeat(lease)
            time.sleep(self._queue.lease_s / 4)

    def _work(self, consumer: str) -> None:
        queue, reclaim_at = self._queue, 0.0
        while True:
            leases = []
            if time.monotonic() >= reclaim_at:
                leases = queue.reclaim(self._stream, consumer)
                reclaim_at = time.monotonic() + queue.lease_s / 3
            leases = leases or queue.lease(self._stream, consumer, count=self._at_once, block_s=0.5)
            self._held.update({lease.entry_id: lease for lease in leases})
            answers = []
            for lease in leases:
                if lease.stream == "library":
                    queue.redis.incr(produce.STARTED_KEY)
                    time.sleep(produce.SLOW_S)
                items = [ItemResult(vector=_ANSWER) for _ in lease.job.items]
                answers.append((lease, JobResult(lease.job.job_id, "m", consumer, items)))
            queue.deliver_all(answers)
            for lease in leases:
                self._held.pop(lease.entry_id, None)


def producer() -> None:
    """Send and wait."""
    queue = JobQueue(produce.URL)

    def send(payload: str) -> tuple[Job, bytes]:
        items = [ImageItem(data=payload.encode())]
        job = Job(new_job_id(), "query", "m", items)
        return job, queue.enqueue(job)

    def send_slow() -> tuple[Job, bytes]:
        job = Job(new_job_id(), "library", "m", [ImageItem()])
        return job, queue.enqueue(job)

    def fetch(sent: tuple[Job, bytes]) -> JobResult:
        return queue.wait_result(*sent, timeout_s=120)

    produce.main(send, send_slow, fetch)


if __name__ == "__main__":
    Worker().run() if sys.argv[1] == "work" else producer()
