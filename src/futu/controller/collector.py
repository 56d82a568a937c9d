"""The collector: the only writer of vectors, into the catalogue and then into the indexes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import Outcome
from futu.catalogue.store import Catalogue
from futu.controller.build import Build
from futu.controller.ingest import Ingest
from futu.errors import NoModelError, NotLeadingError, RedisUnavailableError
from futu.index.live_indexes import LiveIndexes
from futu.jobs.connection import Backoff, Outage
from futu.jobs.measures import Measures
from futu.jobs.message import UNSEEN, ItemError, ItemResult, Job, JobResult
from futu.jobs.streams import Done, JobQueue
from futu.tracing import about

log = logging.getLogger(__name__)

_DONE_AT_ONCE = 16
_BLOCK_S = 0.5
_SAVE_EVERY_S = 60.0
_MOST_PIXELS = 2**31 - 1

_WRONG_ANSWER = ItemError(
    "job_failed",
    "A compute server's answer does not fit the question. Controller and compute servers must be "
    "of the same version.",
)
_CHANGED = ItemError("changed", "The file was changed; index it again.")


class Collector:
    """Takes finished library jobs off Redis. Every step may be repeated without harm."""

    def __init__(
        self,
        catalogue: Catalogue,
        queue: JobQueue,
        ingest: Ingest,
        indexes: LiveIndexes,
        default_id: str,
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._catalogue = catalogue
        self._queue = queue
        self._ingest = ingest
        self._indexes = indexes
        self._default_id = default_id
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
                    self._indexes.save_soon()
                    save_at = time.monotonic() + _SAVE_EVERY_S
            except RedisUnavailableError as error:
                outage.began(error)
                backoff.wait()
            except NotLeadingError:
                # They are the next leader's; this collector is about to be stopped.
                backoff.wait()
            except Exception:
                # The results stay in Redis and are taken again; a full disk may be mended.
                log.exception("results could not be stored; trying again")
                backoff.wait()

    def _collect(self, finished: list[Done]) -> None:
        results: dict[Build | None, list[tuple[str, JobResult]]] = {}
        for done in finished:
            self._ingest.inherited.forget(done.job_id)
            result, build = done.result, self._ingest.build_of(done.job_id)
            with about(None if build is None else build.request_id, done.job_id):
                if result is None:
                    log.warning("the result of job %s has expired; it is done again", done.job_id)
                    continue
                if result.error is not None:
                    # Handed back is not failed: another server is asked.
                    handed_back = result.error.code == NoModelError.code
                    level = logging.DEBUG if handed_back else logging.WARNING
                    log.log(level, "job %s failed: %s", done.job_id, result.error.message)
            results.setdefault(build, []).append((done.job_id, result))
        for build, of_build in results.items():
            if build is not None:
                with about(build.request_id):
                    self._credit(build, of_build)
            else:
                # A repeat, or sent by a controller that is gone: vectors speak for themselves,
                # failures are found again by the next build.
                self._store([o for _, result in of_build for o in self._vectors(result)])
        self._queue.forget_done(finished)

    def _credit(self, build: Build, results: Sequence[tuple[str, JobResult]]) -> None:
        """Store what became of the contents of jobs and count it for the build that waits for it.

        All in one transaction: its end costs as much as what is written.
        """
        with build.lock:
            judged = [self._judge(build, job_id, result) for job_id, result in results]
            self._store([outcome for outcomes in judged for outcome in outcomes])
            for (job_id, _), outcomes in zip(results, judged):
                sent = build.outstanding.get(job_id)
                if sent is not None:
                    came = [bool(outcome.vectors or outcome.error_code) for outcome in outcomes]
                    build.bounces = 0 if any(came) else build.bounces + bool(came)
                for outcome in outcomes:
                    build.credit(outcome)
                build.outstanding.pop(job_id, None)
            build.wait_for("")
            build.lock.notify_all()

    def _judge(self, build: Build, job_id: str, result: JobResult) -> list[Outcome]:
        """What became of the contents of a job, except those that have to be sent again."""
        sent = build.outstanding.get(job_id)
        outcomes = self._vectors(result) if sent is None else self._outcomes(sent.job, result)
        if sent is not None and sent.job.stream == "library":
            # What a server only could not read by its path is sent again by bytes.
            unseen = {o.content_hash for o in outcomes if o.error_code in UNSEEN}
            outcomes = [o for o in outcomes if o.content_hash not in unseen]
            build.resend += unseen
        if any(outcome.error == _WRONG_ANSWER.message for outcome in outcomes):
            log.warning("job %s, done by %s: %s", job_id, result.server, _WRONG_ANSWER.message)
        return outcomes

    def _store(self, outcomes: Sequence[Outcome]) -> None:
        with self._ingest.used.lock:
            with self._measures.timed("library", "catalogue"):
                ids = self._catalogue.record(outcomes, self._default_id)
            for model_id, of_content in ids.items():
                good = {o.content_hash: o for o in outcomes if model_id in o.vectors}
                live = self._indexes.of_model.get(model_id)
                if live is not None:  # else it has gone out of use since the vectors were judged
                    vectors = [np.asarray(o.vectors[model_id], np.float16) for o in good.values()]
                    ids_of_good = [of_content[content] for content in good]
                    with self._measures.timed("library", "index"):
                        live.add(np.array(ids_of_good, np.int64), np.stack(vectors))

    def _vectors(self, result: JobResult) -> list[Outcome]:
        """The vectors of a result, by the content they were computed from."""
        outcomes = [
            self._outcome(item.content_hash, item, self._indexes.of_model)
            for item in result.items
            if item.content_hash is not None
        ]
        return [outcome for outcome in outcomes if outcome.vectors]

    def _outcomes(self, job: Job, result: JobResult) -> list[Outcome]:
        """What became of each content of a job."""
        contents, error = job.contents(), result.error
        if error is None:
            if len(result.items) == len(contents):
                outcomes = [
                    self._outcome(content, item, job.model_ids)
                    for content, item in zip(contents, result.items)
                ]
                # A server that has none of the models says so for the whole job.
                return [
                    outcome
                    if outcome.vectors or outcome.error_code is not None
                    else _failed(outcome.content_hash, _WRONG_ANSWER)
                    for outcome in outcomes
                ]
            error = _WRONG_ANSWER
        if error.code == NoModelError.code:
            return [Outcome(content) for content in contents]
        return [_failed(content, error) for content in contents]

    def _outcome(self, wanted: bytes, result: ItemResult, model_ids: Collection[str]) -> Outcome:
        """What became of a content under some of these models."""
        error = result.error
        if error is not None:
            return _failed(wanted, error)
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        for model_id in model_ids:
            live, data = self._indexes.of_model.get(model_id), result.vectors.get(model_id)
            if live is None or data is None:
                continue
            vector = np.frombuffer(data, "<f4") if len(data) == 4 * live.dimension else None
            if vector is None or not np.isfinite(vector).all():
                return _failed(wanted, _WRONG_ANSWER)
            vectors[model_id] = vector
        if vectors and result.content_hash != wanted:
            return _failed(wanted, _CHANGED)
        if max(result.width, result.height) > _MOST_PIXELS:
            return _failed(wanted, _WRONG_ANSWER)
        return Outcome(wanted, vectors, result.width, result.height)


def _failed(content: bytes, error: ItemError) -> Outcome:
    return Outcome(content, error_code=error.code, error=error.message)
