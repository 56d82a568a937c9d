"""The keeper: what must go on whatever the lanes and workers of a compute server are at."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from futu.compute.hosting import ModelHost
from futu.compute.lanes import HeldLeases
from futu.compute.report import Report
from futu.errors import FutuError
from futu.jobs.message import ServerInfo
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

_ROUNDS_A_LEASE = 4
_LAST_ROUNDS_S = 0.05


class Keeper:
    """Sends heartbeats, keeps the server registered, gives back idle models.

    Args:
        queue: where the leases are from.
        held: the leases in hand.
        models: looked through for idle ones.
        stop: ends the keeper when no lease is held any more.
        about: the server's facts.
        report: what it has measured.
        each_round: also to be done, a few times in the time of a lease.

    Attributes:
        others_see: whether, while this server is blind, another one sees the files.
    """

    def __init__(
        self,
        queue: JobQueue,
        held: HeldLeases,
        models: ModelHost,
        stop: threading.Event,
        *,
        about: Callable[[], ServerInfo],
        report: Report,
        each_round: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._held = held
        self._models = models
        self._stop = stop
        self._about = about
        self._report = report
        self._each_round = each_round
        self.others_see = False

    def run(self) -> None:
        """Go on until the server stops and holds no lease."""
        every_s = self._queue.lease_s / _ROUNDS_A_LEASE
        while not self._stop.is_set() or self._held.all():
            for duty in (self._beat, self._register, self._each_round, self._models.unload_idle):
                try:
                    duty()
                except FutuError as error:
                    log.debug("no heartbeat: %s", error)
                except Exception:
                    # Without a keeper every job in hand would be lost, again and again.
                    log.exception("the keeper goes on after an error")
            if self._stop.wait(every_s):
                # Stopping: jobs in hand still need their heartbeats.
                time.sleep(min(every_s, _LAST_ROUNDS_S))

    def _beat(self) -> None:
        for lease in self._held.all():
            self._queue.heartbeat(lease)

    def _register(self) -> None:
        about = self._about()
        ahead_s = self._queue.servers.register(about, self._report.make())
        self._report.clock_ahead_s = ahead_s
        self.others_see = not about.by_path and any(
            server.by_path for server in self._queue.servers.alive()
        )
