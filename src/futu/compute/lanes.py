"""A lane: a thread that leases jobs from some streams, whatever happens to Redis meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from futu.errors import RedisUnavailableError
from futu.jobs.connection import Backoff, Outage
from futu.jobs.measures import Measures
from futu.jobs.message import Stream
from futu.jobs.streams import JobQueue, Lease

log = logging.getLogger(__name__)

_BLOCK_S = 0.5


class HeldLeases:
    """The leases in hand, which need heartbeats. Safe for several threads."""

    def __init__(self) -> None:
        self._leases: dict[tuple[bytes, str], Lease] = {}
        self._lock = threading.Lock()

    def add(self, leases: Iterable[Lease]) -> None:
        """Take leases into hand."""
        with self._lock:
            self._leases.update({(lease.entry_id, lease.consumer): lease for lease in leases})

    def drop(self, lease: Lease) -> None:
        """Let a lease go; one that is not in hand is no matter."""
        with self._lock:
            self._leases.pop((lease.entry_id, lease.consumer), None)

    def all(self) -> list[Lease]:
        """Those in hand now."""
        with self._lock:
            return list(self._leases.values())


class Lane:
    """Leases jobs until it is stopped, and takes over those of silent workers.

    Args:
        queue: where the jobs are.
        consumer: our name on it.
        held: where leases are put before ``take`` has them.
        stop: set when no more is to be leased.
        outage: tells the log of a Redis that is away.
        streams: where to look; asked each time.
        count: the most to lease from a stream at once.
        take: does the jobs, or sees to it that they are done.
        room: waits until ``take`` may be given more; False to look at ``stop`` again.
        measures: counts the jobs that are taken over.
    """

    def __init__(
        self,
        queue: JobQueue,
        consumer: str,
        *,
        held: HeldLeases,
        stop: threading.Event,
        outage: Outage,
        streams: Callable[[], Sequence[Stream]],
        count: int,
        take: Callable[[list[Lease]], None],
        room: Callable[[], bool] = lambda: True,
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._queue = queue
        self.consumer = consumer
        self._held = held
        self._stop = stop
        self._outage = outage
        self._streams = streams
        self._count = count
        self._take = take
        self._room = room
        self._reclaim_at = 0.0

    def run(self) -> None:
        """Lease until stopped."""
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                if not self._room():
                    continue
                leases = self._lease()
                self._outage.ended()
                if leases:
                    self._held.add(leases)
                    self._take_safely(leases)
                backoff.reset()
            except RedisUnavailableError as error:
                self._outage.began(error)
                backoff.wait()
            except Exception:
                # A lane must not die: the lease ends by itself and the job is tried again.
                log.exception("%s: a job was dropped", self.consumer)
                backoff.wait()

    def _take_safely(self, leases: list[Lease]) -> None:
        try:
            self._take(leases)
        except BaseException:
            for lease in leases:
                self._held.drop(lease)  # without heartbeats they go to others
            raise

    def _lease(self) -> list[Lease]:
        streams = self._streams()
        lease_s = self._queue.lease_s
        if time.monotonic() >= self._reclaim_at:
            leases: list[Lease] = []
            for stream in streams:
                leases += self._queue.reclaim(stream, self.consumer, count=self._count)
            if leases:
                self._measures.count("reclaimed_jobs", len(leases))
                log.warning("took over %d jobs that were given back or silent", len(leases))
                return leases
            self._reclaim_at = time.monotonic() + lease_s / 3
        block_s = min(_BLOCK_S, lease_s / 3)
        return self._queue.lease(streams, self.consumer, count=self._count, block_s=block_s)
