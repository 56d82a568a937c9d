"""What a compute server tells of its work, beside that it is alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psutil

from futu.jobs.measures import STAGE_BOUNDS_S, Measures
from futu.jobs.message import ServerInfo, ServerMeasures
from futu.jobs.streams import Lease


class Report:
    """Made a few times in the time of a lease, and sent with the registration.

    Args:
        about: the server's facts.
        measures: of its lanes and workers.

    Attributes:
        clock_ahead_s: of this machine's clock before that of Redis, seconds; None: not known yet.
    """

    def __init__(self, about: Callable[[], ServerInfo], measures: Measures) -> None:
        self._about = about
        self._measures = measures
        self._process = psutil.Process()
        self.clock_ahead_s: float | None = None

    def note_waits(self, leases: Sequence[Lease]) -> None:
        """How long jobs have stood on their streams; their entries have the time of Redis."""
        ahead_s = self.clock_ahead_s
        if ahead_s is None:
            return
        for lease in leases:
            if lease.deliveries == 1:
                since_s = int(lease.entry_id.partition(b"-")[0]) / 1000
                lane = "query" if lease.stream == "query" else "library"
                waited_s = time.time() - ahead_s - since_s
                self._measures.observe(lane, "queue_wait", max(0.0, waited_s))

    def make(self) -> ServerMeasures:
        """All of it, as it is now."""
        about, used = self._about(), self._process.cpu_times()
        done = {"images": about.images_done, "queries": about.queries_done}
        return ServerMeasures(
            server=about.server,
            host=about.host,
            started_at=about.started_at,
            version=about.version,
            workers=about.workers,
            counts={**self._measures.counts(), **done},
            vectors=self._measures.vectors(),
            stages=self._measures.stages(),
            bounds_s=list(STAGE_BOUNDS_S),
            resident_bytes=self._process.memory_info().rss,
            cpu_s=used.user + used.system,
            clock_ahead_s=self.clock_ahead_s,
        )
