"""The collector: the only writer of vectors, into the catalogue and then into the index."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np

from futu.catalogue.records import Outcome
from futu.catalogue.store import Catalogue
from futu.controller.ingest import Ingest
from futu.errors import UnavailableError
from futu.index.live import LiveIndex
from futu.jobs.connection import Backoff
from futu.jobs.message import ImageItem, ItemResult
from futu.jobs.streams import Done, JobQueue

log = logging.getLogger(__name__)

_DONE_AT_ONCE = 16
_BLOCK_S = 0.5
_SAVE_EVERY_S = 60.0


class Collector:
    """Takes finished library jobs off Redis. Every step may be repeated without harm."""

    def __init__(
        self, catalogue: Catalogue, queue: JobQueue, ingest: Ingest, live: LiveIndex
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._ingest = ingest
        self._live = live
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the results in hand and return."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        backoff = Backoff(self._stop)
        save_at = time.monotonic() + _SAVE_EVERY_S
        while not self._stop.is_set():
            try:
                finished = self._queue.done(_DONE_AT_ONCE, _BLOCK_S)
                if backoff.failures:
                    log.info("redis is back")
                    backoff.reset()
                if finished:
                    self._collect(finished)
                if time.monotonic() >= save_at:
                    self._live.save()
                    save_at = time.monotonic() + _SAVE_EVERY_S
            except UnavailableError as error:
                if backoff.failures == 0:
                    log.warning("%s Trying again until it does.", error)
                backoff.wait()
            except Exception:
                # The results stay in Redis and are taken again; a full disk may be mended.
                log.exception("results could not be stored; trying again")
                backoff.wait()

    def _collect(self, finished: list[Done]) -> None:
        for done in finished:
            if done.result is None:
                log.warning("the result of job %s has expired; it will be done again", done.job_id)
                continue
            build = self._ingest.build_of(done.job_id)
            if build is None:
                # A repeat, or enqueued by a controller that is gone: vectors speak for
                # themselves, failures are found again by the next build.
                self._store(done, [])
                continue
            with build.lock:
                job = build.outstanding.get(done.job_id)
                for outcome in self._store(done, job.items if job else []):
                    build.credit(outcome.content_hash, outcome.vector is not None)
                build.outstanding.pop(done.job_id, None)
                build.lock.notify_all()
        self._queue.forget_done(finished)

    def _store(self, done: Done, items: list[ImageItem]) -> list[Outcome]:
        result = done.result
        if result is None:
            return []
        if result.error is not None:
            outcomes = [
                Outcome(item.content_hash, error_code=result.error.code, error=result.error.message)
                for item in items
                if item.content_hash is not None
            ]
        elif len(items) == len(result.items):
            outcomes = [
                _outcome(i.content_hash, r) for i, r in zip(items, result.items) if i.content_hash
            ]
        else:
            outcomes = [
                _outcome(r.content_hash, r)
                for r in result.items
                if r.content_hash is not None and r.error is None
            ]
        with self._ingest.index_lock:
            ids = self._catalogue.record(outcomes, result.model_id)
            good = [o for o in outcomes if o.vector is not None]
            if good and result.model_id == self._live.model_id:
                self._live.add(
                    np.array([ids[o.content_hash] for o in good], np.int64),
                    np.stack([np.asarray(o.vector, np.float16) for o in good]),
                )
        return outcomes


def _outcome(wanted: bytes, result: ItemResult) -> Outcome:
    if result.vector is not None and result.content_hash == wanted:
        vector = np.frombuffer(result.vector, "<f4")
        return Outcome(wanted, vector, result.width, result.height)
    if result.error is not None:
        return Outcome(wanted, error_code=result.error.code, error=result.error.message)
    return Outcome(wanted, error_code="changed", error="The file was changed; index it again.")
