"""Builds: a dataset's folder is scanned, its new contents become jobs, their results are counted.

Rows are committed as pending before their job is enqueued, and a job carries each content once,
however many files have it. What a controller that died had enqueued is taken over by the next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from futu.catalogue.records import BuildRecord, DatasetRecord
from futu.catalogue.schema import BUILDING, CANCELLED, DONE, ERROR
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, BuildCancelledError, BuildStoppedError, describe
from futu.controller.dispatch import Dispatch
from futu.controller.scan import Scan
from futu.errors import FutuError, UnavailableError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots
from futu.index.live import LiveIndex
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

_BUILDS_AT_ONCE = 2
_SWEEP_EVERY_S = 60.0
_AFTER_ERROR = timedelta(minutes=10)


class Ingest:
    """All builds of a controller; at most one for each dataset.

    Attributes:
        index_lock: held while catalogue and index are changed together.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        queue: JobQueue,
        roots: ImageRoots,
        live: LiveIndex,
        limits: DecodeLimits,
        *,
        batch_size: int,
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._live = live
        self._stop = threading.Event()
        self._scan = Scan(catalogue, roots)
        self._dispatch = Dispatch(catalogue, queue, limits, batch_size, self._stop)
        self._lock = threading.Lock()
        self._builds: dict[int, Build] = {}
        self._pool = ThreadPoolExecutor(_BUILDS_AT_ONCE, thread_name_prefix="build")
        self._sweeper = threading.Thread(target=self._sweep_on, name="sweep", daemon=True)
        self.index_lock = threading.Lock()

    def start(self, dataset: DatasetRecord, *, retry_failed: bool = False) -> Build:
        """Begin a build, or return the one under way."""
        with self._lock:
            running = self._builds.get(dataset.id)
            if running is not None:
                return running
            record = self._catalogue.start_build(dataset.id, self._live.model_id)
            build = Build(dataset, record, retry_failed=retry_failed)
            self._builds[dataset.id] = build
            self._pool.submit(self._run, build)
            return build

    def cancel(self, dataset: DatasetRecord) -> bool:
        """Ask the build of a dataset to end; False when there is none under way.

        What it has done stays; the next build goes on from there.
        """
        with self._lock:
            build = self._builds.get(dataset.id)
        if build is None:
            return False
        build.cancel()
        return True

    def resume(self) -> None:
        """Take over what an earlier controller left: its jobs and its builds."""
        try:
            for _, job in self._queue.unfinished("library"):
                if job.collect and job.model_ids == [self._live.model_id]:
                    self._scan.adopted.update(
                        {item.content_hash: job for item in job.items if item.content_hash}
                    )
            for entry_id, job in self._queue.unfinished("inline"):
                if job.collect:
                    self._queue.withdraw(job, entry_id)
        except FutuError as error:
            log.debug("no jobs to take over: %s", error)
        datasets = set()
        for record in self._catalogue.interrupted_builds():
            record.state = ERROR
            record.message = "interrupted by a restart; continued by a new build"
            self._catalogue.save_build(record)
            datasets.add(record.dataset_id)
        for dataset_id in sorted(datasets):
            log.info("continuing the interrupted build of dataset %d", dataset_id)
            self.start(self._catalogue.dataset(dataset_id))
        self._sweeper.start()

    def stop(self) -> None:
        """Stop all builds where they are."""
        self._stop.set()
        with self._lock:
            builds = list(self._builds.values())
        for build in builds:
            with build.lock:
                build.lock.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def build_of(self, job_id: str) -> Build | None:
        """The build that waits for a job."""
        with self._lock:
            return next((b for b in self._builds.values() if job_id in b.outstanding), None)

    def progress(self, dataset: DatasetRecord) -> dict[str, Any]:
        """How far the build under way is, or what came of the last one."""
        with self._lock:
            build = self._builds.get(dataset.id)
        if build is not None:
            return describe(build.record, scanned=build.scanned)
        return describe(self._catalogue.last_build(dataset.id))

    def described(self, records: Sequence[BuildRecord]) -> list[dict[str, Any]]:
        """Builds as ``progress`` describes them; those under way as they are now."""
        with self._lock:
            running = {build.record.id: build for build in self._builds.values()}
        return [
            describe(running[r.id].record, scanned=running[r.id].scanned)
            if r.id in running
            else describe(r)
            for r in records
        ]

    # --- the sweep -------------------------------------------------------------------------

    def _sweep_on(self) -> None:
        while not self._stop.wait(_SWEEP_EVERY_S):
            try:
                self.sweep()
            except Exception:
                log.exception("the sweep failed; again in %.0f s", _SWEEP_EVERY_S)

    def sweep(self) -> None:
        """Build datasets again whose images wait for a vector though nobody is at it.

        A build that was cancelled stays so, and one that failed is left alone for a while.
        """
        for dataset_id in self._catalogue.unfinished_datasets():
            with self._lock:
                if dataset_id in self._builds:
                    continue
            last = self._catalogue.last_build(dataset_id)
            if last is not None and last.state == CANCELLED:
                continue
            failed = last.finished_at if last is not None and last.state == ERROR else None
            if failed is not None and datetime.now(UTC) - failed < _AFTER_ERROR:
                continue
            dataset = self._catalogue.dataset(dataset_id)
            log.warning("images of %s were left waiting; building it again", dataset.name)
            self.start(dataset)

    # --- one build -------------------------------------------------------------------------

    def _run(self, build: Build) -> None:
        name, record = build.dataset.name, build.record
        started = time.monotonic()
        try:
            self._scan.run(build, lambda items: self._dispatch.send(build, items))
            self._dispatch.finish(build)
            with self.index_lock:
                self._live.level(
                    self._catalogue.searchable_vector_ids(self._live.model_id),
                    self._catalogue.vectors,
                )
            self._live.save()
            record.state = DONE
            record.message = _summary(record)
            log.info(
                "build of %s done in %.1f s: %s", name, time.monotonic() - started, record.message
            )
        except BuildStoppedError:
            log.info("build of %s stopped at %d of %d", name, record.current, record.total)
        except BuildCancelledError:
            self._cancelled(build)
        except FutuError as error:
            record.state, record.message = ERROR, error.message
            log.error("build of %s failed: %s", name, error)
        except Exception as error:
            record.state, record.message = ERROR, f"Unexpected: {error!r}. See the log."
            log.exception("build of %s failed", name)
        finally:
            if record.state != BUILDING:
                record.finished_at = datetime.now(UTC)
            self._catalogue.save_build(record)
            with self._lock:
                self._builds.pop(build.dataset.id, None)

    def _cancelled(self, build: Build) -> None:
        record = build.record
        try:
            self._dispatch.withdraw(build)
        except UnavailableError as error:
            log.warning("jobs of the cancelled build of %s stay: %s", build.dataset.name, error)
        record.state = CANCELLED
        record.message = (
            f"Cancelled at {record.current} of {record.total} images. Index it again to go on."
        )
        log.info("build of %s: %s", build.dataset.name, record.message)


def _summary(record: BuildRecord) -> str:
    aside = f", {record.quarantined} put aside" if record.quarantined else ""
    return (
        f"{record.total} images: {record.added} new, {record.reused} known by content, "
        f"{record.unchanged} unchanged, {record.failed} failed{aside}, {record.missing} gone."
    )
