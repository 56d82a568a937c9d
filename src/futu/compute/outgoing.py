"""Results on their way: a thread of its own sends them, so that no worker waits for Redis."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from futu.compute.batching import Answer
from futu.errors import RedisUnavailableError

log = logging.getLogger(__name__)

_MOST_WAITING = 2
"""Deliveries in hand beyond which workers wait: with Redis away, work is not to pile up."""


class Outgoing:
    """Delivers results in the order in which they come. Safe for several threads.

    Args:
        deliver: sends some; may wait for a Redis that is away.
    """

    def __init__(self, deliver: Callable[[list[Answer]], None]) -> None:
        self._deliver = deliver
        self._waiting: queue.Queue[list[Answer] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="outgoing", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, answers: list[Answer]) -> None:
        """Hand results over; waits while several wait."""
        self._waiting.put(answers)

    def close(self) -> None:
        """Return when all that was put is delivered, or given up; nothing may be put any more."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (answers := self._waiting.get()) is not None:
            try:
                self._deliver(answers)
            except RedisUnavailableError as error:
                log.warning("%d jobs are left to their leases: %s", len(answers), error)
            except Exception:
                # This thread must not die; the lease ends by itself and the job is tried again.
                log.exception("%d jobs could not be delivered", len(answers))
