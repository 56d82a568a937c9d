"""The collector: the only writer of vectors, into the catalogue and then into the index."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np

from futu.catalogue.records import Outcome
from futu.catalogue.store import Catalogue
from futu.controller.ingest import Ingest
from futu.errors import RedisUnavailableError
from futu.index.live import LiveIndex
from futu.jobs.connection import Backoff, Outage
from futu.jobs.message import UNSEEN, ImageItem, ItemResult, Job, JobResult
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
        backoff, outage = Backoff(self._stop), Outage()
        save_at = time.monotonic() + _SAVE_EVERY_S
        while not self._stop.is_set():
            try:
                finished = self._queue.done(_DONE_AT_ONCE, _BLOCK_S)
                outage.ended()
                backoff.reset()
                if finished:
                    self._collect(finished)
                if time.monotonic() >= save_at:
                    self._live.save()
                    save_at = time.monotonic() + _SAVE_EVERY_S
            except RedisUnavailableError as error:
                outage.began(error)
                backoff.wait()
            except Exception:
                # The results stay in Redis and are taken again; a full disk may be mended.
                log.exception("results could not be stored; trying again")
                backoff.wait()

    def _collect(self, finished: list[Done]) -> None:
        for done in finished:
            result = done.result
            if result is None:
                log.warning("the result of job %s has expired; it will be done again", done.job_id)
                continue
            build = self._ingest.build_of(done.job_id)
            if build is None:
                # A repeat, or enqueued by a controller that is gone: vectors speak for
                # themselves, failures are found again by the next build.
                self._store(_vectors(result, self._live.model_id))
                continue
            with build.lock:
                sent = build.outstanding.get(done.job_id)
                if sent is None:
                    outcomes = _vectors(result, self._live.model_id)
                else:
                    outcomes = _outcomes(sent.job, result)
                    outcomes, unseen = _sift(sent.job, outcomes)
                    build.resend += unseen
                self._store(outcomes)
                for outcome in outcomes:
                    build.credit(outcome)
                build.outstanding.pop(done.job_id, None)
                build.wait_for("")
                build.lock.notify_all()
        self._queue.forget_done(finished)

    def _store(self, outcomes: Sequence[Outcome]) -> None:
        with self._ingest.index_lock:
            ids = self._catalogue.record(outcomes, self._live.model_id)
            good = [o for o in outcomes if o.vector is not None]
            if good:
                self._live.add(
                    np.array([ids[o.content_hash] for o in good], np.int64),
                    np.stack([np.asarray(o.vector, np.float16) for o in good]),
                )


def _vectors(result: JobResult, model_id: str) -> list[Outcome]:
    """The vectors of a result, by the content they were computed from."""
    return [
        _outcome(item.content_hash, item, model_id)
        for item in result.items
        if item.content_hash is not None and model_id in item.vectors
    ]


def _outcomes(job: Job, result: JobResult) -> list[Outcome]:
    """What became of each content of a job."""
    if result.error is None and len(job.items) == len(result.items):
        pairs = zip(job.items, result.items)
        return [
            _outcome(item.content_hash, own, job.model_ids[0])
            for item, own in pairs
            if item.content_hash
        ]
    error = result.error
    code, message = (error.code, error.message) if error else ("job_failed", "A wrong answer.")
    return [
        Outcome(item.content_hash, error_code=code, error=message)
        for item in job.items
        if item.content_hash is not None
    ]


def _sift(job: Job, outcomes: list[Outcome]) -> tuple[list[Outcome], list[ImageItem]]:
    """Part what has come to its end from pictures that a server only could not read by path."""
    if job.stream != "library":
        return outcomes, []
    unseen = {o.content_hash for o in outcomes if o.error_code in UNSEEN}
    return (
        [o for o in outcomes if o.content_hash not in unseen],
        [item for item in job.items if item.content_hash in unseen],
    )


def _outcome(wanted: bytes, result: ItemResult, model_id: str) -> Outcome:
    if model_id in result.vectors and result.content_hash == wanted:
        vector = np.frombuffer(result.vectors[model_id], "<f4")
        return Outcome(wanted, vector, result.width, result.height)
    if result.error is not None:
        return Outcome(wanted, error_code=result.error.code, error=result.error.message)
    return Outcome(wanted, error_code="changed", error="The file was changed; index it again.")
