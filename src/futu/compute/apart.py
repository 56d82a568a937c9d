"""The thread that does suspicious jobs, one after the other, in a process apart."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from futu.compute.attempts import Attempts
from futu.errors import RedisUnavailableError
from futu.jobs.connection import Outage
from futu.jobs.streams import Lease
from futu.tracing import about

log = logging.getLogger(__name__)


class Apart:
    """Jobs that have killed their worker, or over a picture of which a decoder hangs.

    Args:
        attempts: does a job apart, and delivers it.
        outage: tells the log of a Redis that is away.
        done: has a job that was delivered.
        let_go: has each job in the end: it needs no heartbeats any more.
    """

    def __init__(
        self,
        attempts: Attempts,
        outage: Outage,
        *,
        done: Callable[[Lease], None],
        let_go: Callable[[Lease], None],
    ) -> None:
        self._attempts = attempts
        self._outage = outage
        self._done = done
        self._let_go = let_go
        self._waiting: deque[Lease] = deque()
        self._ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="apart", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, lease: Lease) -> None:
        """Do a job, when those before it are done."""
        with self._changed:
            self._waiting.append(lease)
            self._changed.notify_all()

    def stop(self) -> list[Lease]:
        """Finish the job that is begun and return the others: each may take minutes."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        # No longer shared.
        return list(self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._waiting)
                if self._ending:
                    return
                lease = self._waiting.popleft()
            self._do(lease)

    def _do(self, lease: Lease) -> None:
        with about(lease.job.request_id, lease.job.job_id):
            self._try(lease)

    def _try(self, lease: Lease) -> None:
        try:
            if self._attempts.apart(lease):
                self._done(lease)
        except RedisUnavailableError as error:
            self._outage.began(error)
        except Exception:
            # As for a lane: the lease ends by itself.
            log.exception("job %s was dropped", lease.job.job_id)
        finally:
            self._let_go(lease)
