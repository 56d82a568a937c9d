"""The lead among controllers of one catalogue: taken, kept, given up.

    waiting --lock taken--> leading --lock lost, or a write refused--> waiting

Whoever leads runs the builds, the collector and the sweep. The lock in Redis tells that a leader is
gone; the term, counted by the catalogue, sees to it that one that was only suspended writes nothing
when it wakes. While Redis is away the leader goes on: no results come, and nobody else can take
the lead.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from futu.catalogue.facts import Term
from futu.catalogue.store import Catalogue
from futu.errors import FutuError, RedisUnavailableError
from futu.jobs.connection import Outage
from futu.jobs.lead import LeaderLock

log = logging.getLogger(__name__)

_BEATS = 10
"""Looks at the lock in a lease time."""


class Leadership:
    """Takes part in the election of a leader until it is stopped.

    Args:
        catalogue: counts the terms.
        lock: in Redis.
        lease_s: silence after which another takes the lead, seconds.
        begin: begins the leader's tasks in a term.
        end: ends them; called once for each ``begin``, in another thread than that of the beats.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        lock: LeaderLock,
        lease_s: float,
        begin: Callable[[Term], None],
        end: Callable[[], None],
    ) -> None:
        self._catalogue = catalogue
        self._lock = lock
        self._lease_s = lease_s
        self._begin = begin
        self._end = end
        self._term: Term | None = None
        self._doubt = threading.Event()
        self._stop = threading.Event()
        self._outage = Outage()
        # Beginning and ending may take long; the lock is kept meanwhile, and their order too.
        self._tasks = ThreadPoolExecutor(1, thread_name_prefix="leader")
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether this controller leads, as far as it knows."""
        return self._term is not None

    def start(self) -> None:
        """Take the lead if nobody has it, and its tasks, before returning; then take part."""
        begun = self._beat()
        # It keeps the lock while the tasks begin.
        self._thread.start()
        if begun is not None:
            begun.result()

    def stop(self) -> None:
        """End the tasks of a leader and let another lead."""
        self._stop.set()
        self._doubt.set()
        if self._thread.ident is not None:
            self._thread.join()
        led, self._term = self._term is not None, None
        if led:
            self._tasks.submit(self._end_tasks)
        self._tasks.shutdown()
        if led:
            try:
                self._lock.release()
            except RedisUnavailableError as error:
                log.debug("the lead runs out by itself: %s", error)

    def doubt(self) -> None:
        """A write was refused: find out soon who leads."""
        self._doubt.set()

    def holder(self) -> str | None:
        """The name of the controller that leads; its own when Redis cannot say."""
        try:
            return self._lock.holder()
        except RedisUnavailableError:
            return self._lock.name if self.leads else None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._doubt.wait(self._lease_s / _BEATS)
            if not self._stop.is_set():
                self._beat()

    def _beat(self) -> Future[None] | None:
        doubt = self._doubt.is_set()
        self._doubt.clear()
        try:
            begun = None
            if self._term is None:
                begun = self._take()
            else:
                self._keep(self._term, doubt=doubt)
            self._outage.ended()
            return begun
        except RedisUnavailableError as error:
            self._outage.began(error)
        except FutuError as error:
            log.warning("the lead is looked at again: %s", error)
        except Exception:
            log.exception("the lead is looked at again")
        return None

    def _keep(self, term: Term, *, doubt: bool) -> None:
        kept = self._lock.keep()
        if kept and not doubt:
            return
        # The lock may have run out, or Redis have forgotten it, with nobody else there.
        if (kept or self._lock.take()) and self._catalogue.leads(term):
            return
        log.warning("another controller leads now; this one has ended its tasks")
        self._term = None
        self._tasks.submit(self._end_tasks)

    def _take(self) -> Future[None] | None:
        if not self._lock.take():
            return None
        try:
            term = self._catalogue.begin_term(self._lease_s)
        except BaseException:
            self._lock.release()
            raise
        term = self._term = replace(term, refused=self.doubt)
        log.info("this controller leads (%s, term %d)", self._lock.name, term.number)
        return self._tasks.submit(self._begin_tasks, term)

    def _begin_tasks(self, term: Term) -> None:
        try:
            self._begin(term)
            return
        except FutuError as error:
            log.warning("the tasks of the leader cannot begin: %s", error)
        except Exception:
            log.exception("the tasks of the leader cannot begin")
        self._end_tasks()
        # Another may do better; or this one, at its next look.
        self._term = None
        with contextlib.suppress(RedisUnavailableError):
            self._lock.release()

    def _end_tasks(self) -> None:
        try:
            self._end()
        except Exception:
            log.exception("the tasks of the leader have not ended well")
