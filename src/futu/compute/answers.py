"""Sends results back, counts them, and notices when this machine does not see the files."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from futu.compute.lanes import HeldLeases
from futu.errors import RedisUnavailableError, UnreadableFileError
from futu.jobs.connection import Backoff, Outage
from futu.jobs.measures import Measures
from futu.jobs.message import UNSEEN, ItemError, ItemResult, JobResult, ServerInfo
from futu.jobs.streams import JobQueue, Lease
from futu.tracing import about

log = logging.getLogger(__name__)

_INLINE_FOR_S = 60.0
_RATE_OVER_S = 10.0


class Answers:
    """Delivers what lanes have done. Safe for several threads.

    Args:
        queue: where to.
        server: our name.
        held: leases are let go once they are delivered.
        stop: ends the waiting for a Redis that is away.
        outage: tells the log of it.
        about: the server's facts; made known with each result that counts in them.
        measures: has the times of deliveries, and counts what they were.

    Attributes:
        images_done, queries_done: pictures of datasets, and of queries, since the start.
    """

    def __init__(
        self,
        queue: JobQueue,
        server: str,
        held: HeldLeases,
        stop: threading.Event,
        outage: Outage,
        about: Callable[[], ServerInfo],
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._queue = queue
        self._server = server
        self._held = held
        self._stop = stop
        self._outage = outage
        self._about = about
        self.images_done = self.queries_done = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()
        self._blind_until = 0.0

    @property
    def by_path(self) -> bool:
        """Whether this machine sees the files of datasets, as far as is known."""
        return time.monotonic() >= self._blind_until

    def rate(self) -> float:
        """Pictures of datasets per second, over the last seconds."""
        now = time.monotonic()
        with self._lock:
            while self._recent and self._recent[0][0] < now - _RATE_OVER_S:
                self._recent.popleft()
            return sum(images for _, images in self._recent) / _RATE_OVER_S

    def not_here(self, lease: Lease) -> None:
        """Hand a job by path back: somebody else is to do it, or it is to come by bytes."""
        error = ItemError.of(
            UnreadableFileError(f"{self._server} does not see the controller's files.")
        )
        items = [ItemResult(error=error)] * len(lease.job.items)
        self.deliver([(lease, JobResult(lease.job.job_id, self._server, items))])

    def deliver(self, answers: list[tuple[Lease, JobResult]]) -> None:
        """Send results and let the leases go.

        Raises:
            RedisUnavailableError: Redis is away and the server is stopping.
        """
        for lease, result in answers:
            self._note_sight(lease, result)
            if lease.stream != "query" and result.error is None and not _all_unseen(result):
                # Told before the result is, so that whoever has the result can rely on it.
                self.count(lease)
        try:
            delivered = self._delivered(answers)
        finally:
            for lease, _ in answers:
                self._held.drop(lease)
        for (lease, result), done in zip(answers, delivered):
            with about(lease.job.request_id, lease.job.job_id):
                self._tell(lease, result, done)

    def _tell(self, lease: Lease, result: JobResult, done: bool) -> None:
        """Count and log what became of a job."""
        if not done:
            self._measures.count("lost_leases")
            log.warning("job %s was no longer ours; result dropped", lease.job.job_id)
            return
        log.debug("job %s: %d images done", lease.job.job_id, len(lease.job.items))
        if lease.stream == "query":
            self.count(lease)
        for item in result.items:
            if item.error is not None and item.error.code not in UNSEEN:
                self._measures.count("failed_images")
                log.warning("job %s: %s", lease.job.job_id, item.error.message)

    def count(self, lease: Lease) -> None:
        """Count the pictures of a job that is done."""
        images = len(lease.job.items)
        with self._lock:
            if lease.stream == "query":
                self.queries_done += images
                return
            self.images_done += images
            self._recent.append((time.monotonic(), images))

    def _note_sight(self, lease: Lease, result: JobResult) -> None:
        """Notice when not one file of a job could be read as the controller saw it."""
        if lease.stream != "library" or not self.by_path or not _all_unseen(result):
            return
        log.warning(
            "the files of job %s cannot be read here (%s); for %.0f s this server takes only "
            "jobs that carry the pictures",
            lease.job.job_id,
            lease.job.items[0].name,
            _INLINE_FOR_S,
        )
        self._blind_until = time.monotonic() + _INLINE_FOR_S

    def _delivered(self, answers: list[tuple[Lease, JobResult]]) -> list[bool]:
        """Deliver, waiting for a Redis that is away: the work is not to be lost for that."""
        backoff = Backoff(self._stop)
        counts = any(lease.stream != "query" for lease, _ in answers)
        while answers:
            try:
                with self._measures.timed("library" if counts else "query", "deliver"):
                    return self._queue.deliver_all(answers, self._about() if counts else None)
            except RedisUnavailableError as error:
                if self._stop.is_set():
                    raise
                self._outage.began(error)
                backoff.wait()
        return []


def _all_unseen(result: JobResult) -> bool:
    """Whether not one picture of a job could be read as the controller saw it."""
    return bool(result.items) and all(
        item.error is not None and item.error.code in UNSEEN for item in result.items
    )
