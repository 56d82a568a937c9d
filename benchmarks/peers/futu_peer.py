"""Futu's queue: a worker process of two threads, and a producer."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from benchmarks.peers import produce

from futu.jobs.message import ImageItem, ItemResult, Job, JobResult, Stream, new_job_id
from futu.jobs.streams import JobQueue, Lease

_MODEL = "benchmark"
_ANSWER = produce.REPLY.encode()
# As a compute server does: queries several at a time, jobs of datasets one by one.
_STREAM: Stream = "library" if produce.RECOVERY else "query"
_AT_ONCE = 1 if produce.RECOVERY else int(os.environ.get("BENCHMARK_AT_ONCE", "16"))


class Worker:
    """Two threads that lease and deliver, and one that sends heartbeats, as a compute server."""

    def __init__(self) -> None:
        self._queue = JobQueue(produce.URL)
        self._stop = threading.Event()
        self._held: dict[bytes, Lease] = {}
        self._held_lock = threading.Lock()

    def stop(self, *_: object) -> None:
        """Finish the jobs in hand and return from ``run``."""
        self._stop.set()

    def run(self) -> None:
        """Work until ``stop``."""
        names = [f"{os.getpid()}-{time.time_ns()}-{number}" for number in range(2)]
        threads = [threading.Thread(target=self._work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        while not self._stop.wait(self._queue.lease_s / 4):
            with self._held_lock:
                held = list(self._held.values())
            for lease in held:
                self._queue.heartbeat(lease)
        for thread in threads:
            thread.join()
        self._queue.retire(names)
        self._queue.close()

    def _work(self, consumer: str) -> None:
        queue, reclaim_at = self._queue, 0.0
        while not self._stop.is_set():
            leases: list[Lease] = []
            if time.monotonic() >= reclaim_at:
                leases = queue.reclaim(_STREAM, consumer, count=_AT_ONCE)
                if not leases:
                    reclaim_at = time.monotonic() + queue.lease_s / 3
            leases = leases or queue.lease(_STREAM, consumer, count=_AT_ONCE, block_s=0.5)
            if leases:
                self._do(leases, consumer)

    def _do(self, leases: list[Lease], consumer: str) -> None:
        with self._held_lock:
            self._held.update({lease.entry_id: lease for lease in leases})
        answers = [(lease, self._answer(lease.job, consumer)) for lease in leases]
        self._queue.deliver_all(answers)
        with self._held_lock:
            for lease in leases:
                del self._held[lease.entry_id]

    def _answer(self, job: Job, consumer: str) -> JobResult:
        if job.stream == "library":
            self._queue.redis.rpush(produce.STARTED_KEY, "1")
            time.sleep(produce.SLOW_S)
        items = [ItemResult(vectors={_MODEL: _ANSWER}) for _ in job.items]
        return JobResult(job.job_id, consumer, items)


def _produce() -> None:
    queue = JobQueue(produce.URL)

    def query(payload: str) -> Job:
        return Job(new_job_id(), "query", [_MODEL], [ImageItem(data=payload.encode())])

    def send(payload: str) -> tuple[Job, bytes]:
        job = query(payload)
        return job, queue.enqueue(job)

    def ask(payload: str) -> JobResult:
        return queue.ask(query(payload), produce.PATIENCE_S)

    def send_slow() -> tuple[Job, bytes]:
        job = Job(new_job_id(), "library", [_MODEL], [ImageItem(path=b"slow")])
        return job, queue.enqueue(job)

    def fetch(sent: tuple[Job, bytes]) -> JobResult:
        return queue.wait_result(*sent, timeout_s=produce.PATIENCE_S)

    produce.main(send, send_slow, fetch, ask=ask)
    queue.close()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        worker = Worker()
        signal.signal(signal.SIGTERM, worker.stop)
        worker.run()
    else:
        _produce()
