"""Builds: a dataset's folder is scanned, its new contents become jobs, their results are counted.

Rows are committed as pending before their job is enqueued, and a job carries each content once,
however many files have it. What Redis forgets is noticed (a job that is neither on the stream nor
done) and enqueued again; what a controller that died had enqueued is taken over by the next.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from futu.catalogue.records import DatasetRecord, KnownFile, ScannedFile
from futu.catalogue.schema import BUILDING, DONE, ERROR, FAILED, MISSING, PENDING, READY
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, Counted, describe
from futu.errors import FutuError, QueueFullError, UnavailableError
from futu.images.folder import FoundFile, ImageRoots, display, hash_file, walk
from futu.index.live import LiveIndex
from futu.jobs.connection import Backoff
from futu.jobs.message import ImageItem, Job, new_job_id
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

PERMANENT_ERRORS = frozenset({"not_an_image", "cannot_decode"})
"""A file that failed so is tried again only when it has changed."""

_SCAN_CHUNK = 256
_WINDOW_JOBS = 24
_STALL_CHECK_S = 2.0
_BUILDS_AT_ONCE = 2


class BuildStoppedError(Exception):
    """The controller is shutting down; the build goes on at its next start."""


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
        *,
        batch_size: int,
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._roots = roots
        self._live = live
        self._batch_size = batch_size
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._builds: dict[int, Build] = {}
        self._adopted: dict[bytes, Job] = {}
        self._pool = ThreadPoolExecutor(_BUILDS_AT_ONCE, thread_name_prefix="build")
        self.index_lock = threading.Lock()

    def start(self, dataset: DatasetRecord) -> Build:
        """Begin a build, or return the one under way."""
        with self._lock:
            running = self._builds.get(dataset.id)
            if running is not None:
                return running
            record = self._catalogue.start_build(dataset.id, self._live.model_id)
            build = self._builds[dataset.id] = Build(dataset, record)
            self._pool.submit(self._run, build)
            return build

    def resume(self) -> None:
        """Take over what an earlier controller left: its jobs and its builds."""
        try:
            for job in self._queue.unfinished("library"):
                if job.collect and job.model_id == self._live.model_id:
                    self._adopted.update({i.content_hash: job for i in job.items if i.content_hash})
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

    # --- one build -------------------------------------------------------------------------

    def _run(self, build: Build) -> None:
        name, record = build.dataset.name, build.record
        started = time.monotonic()
        try:
            self._scan(build)
            self._await_outstanding(build)
            with self.index_lock:
                self._live.level(
                    self._catalogue.searchable_vector_ids(self._live.model_id),
                    self._catalogue.vectors,
                )
            self._live.save()
            record.state = DONE
            record.message = (
                f"{record.total} images: {record.added} new, {record.reused} known by content, "
                f"{record.unchanged} unchanged, {record.failed} failed, {record.missing} gone."
            )
            log.info(
                "build of %s done in %.1f s: %s", name, time.monotonic() - started, record.message
            )
        except BuildStoppedError:
            log.info("build of %s stopped at %d of %d", name, record.current, record.total)
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

    def _scan(self, build: Build) -> None:
        dataset = build.dataset
        folder = self._roots.resolve(dataset.folder)
        files = list(walk(folder, self._roots))
        known = self._catalogue.known_files(dataset.id, build.record.model_id)
        with build.lock:
            build.record.total = len(files)
            build.scanned = True
        self._catalogue.save_build(build.record)
        log.info("build of %s: %d images in %s", dataset.name, len(files), display(folder))
        waiting: list[ImageItem] = []
        for start in range(0, len(files), _SCAN_CHUNK):
            waiting += self._take(build, folder, files[start : start + _SCAN_CHUNK], known)
            while len(waiting) >= self._batch_size:
                self._enqueue(build, waiting[: self._batch_size])
                del waiting[: self._batch_size]
        if waiting:
            self._enqueue(build, waiting)
        seen = {file.path for file in files}
        gone = [k.id for path, k in known.items() if path not in seen and k.state != MISSING]
        if gone:
            self._catalogue.mark_missing(gone)
            build.record.missing = len(gone)

    def _take(
        self,
        build: Build,
        folder: Path,
        files: Sequence[FoundFile],
        known: dict[str, KnownFile],
    ) -> list[ImageItem]:
        """Write the rows of new and changed files; return the contents that need a vector."""
        if self._stop.is_set():
            raise BuildStoppedError
        record = build.record
        changed: list[ScannedFile] = []
        unchanged = failed = 0
        for file in files:
            row = known.get(file.path)
            same = row is not None and (row.size, row.mtime_ns) == (file.size, file.mtime_ns)
            if same and row and row.state == READY and row.vector_id is not None:
                unchanged += 1
            elif same and row and row.state == FAILED and row.error_code in PERMANENT_ERRORS:
                failed += 1
            else:
                changed.append(_hashed(folder, file))
        hashes = [f.content_hash for f in changed if f.content_hash is not None]
        items: list[ImageItem] = []
        with build.lock:
            # The collector holds this lock while it records: a content is either already in
            # the catalogue, or still counted here, never between the two.
            there = self._catalogue.vector_ids(hashes, record.model_id)
            rows: list[ScannedFile] = []
            for scanned in changed:
                digest = scanned.content_hash
                if digest is None:
                    rows.append(scanned)
                    failed += 1
                elif digest in there:
                    rows.append(replace(scanned, state=READY))
                    record.reused += 1
                else:
                    rows.append(scanned)
                    if digest in build.counted:
                        build.counted[digest].files += 1
                        continue
                    path = os.path.join(folder, scanned.path)
                    item = ImageItem(
                        path=os.fsencode(path), content_hash=digest, name=display(scanned.path)
                    )
                    build.counted[digest] = Counted(item, 1)
                    adopted = self._adopted.pop(digest, None)
                    if adopted is not None:
                        build.outstanding[adopted.job_id] = adopted
                    else:
                        items.append(item)
            self._catalogue.write_files(build.dataset.id, rows)
            record.unchanged += unchanged
            record.failed += failed
        return items

    def _enqueue(self, build: Build, items: Sequence[ImageItem]) -> None:
        job = Job(new_job_id(), "library", build.record.model_id, list(items), collect=True)
        with build.lock:
            while len(build.outstanding) >= _WINDOW_JOBS and not self._stop.is_set():
                if not build.lock.wait(_STALL_CHECK_S):
                    self._enqueue_lost(build)
            build.outstanding[job.job_id] = job
        self._send(build, job)

    def _send(self, build: Build, job: Job) -> None:
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                self._queue.enqueue(job)
                if backoff.failures:
                    build.record.message = ""
                return
            except (UnavailableError, QueueFullError) as error:
                if backoff.failures == 0:
                    build.record.message = f"Waiting: {error.message}"
                    log.warning("build of %s waits: %s", build.dataset.name, error)
                backoff.wait()
        raise BuildStoppedError

    def _await_outstanding(self, build: Build) -> None:
        with build.lock:
            while build.outstanding:
                if self._stop.is_set():
                    raise BuildStoppedError
                if not build.lock.wait(_STALL_CHECK_S):
                    self._enqueue_lost(build)

    def _enqueue_lost(self, build: Build) -> None:
        """Enqueue again what Redis lost; called with the build's lock, when nothing has come.

        A job is lost when two checks in a row find it neither on the stream nor announced.
        """
        try:
            alive = {job.job_id for job in self._queue.unfinished("library")}
            alive |= {done.job_id for done in self._queue.done(1000, 0.001) if done.result}
            if not self._queue.servers():
                build.record.message = (
                    "Waiting: no compute server is running. Start one with ./start.sh compute."
                )
            elif build.record.message.startswith("Waiting"):
                build.record.message = ""
        except FutuError as error:
            build.record.message = f"Waiting: {error.message}"
            return
        missing = set(build.outstanding) - alive
        for job_id in missing & build.suspects:
            log.warning("job %s was lost by Redis; enqueued again", job_id)
            try:
                self._queue.enqueue(build.outstanding[job_id])
            except FutuError as error:
                log.debug("not yet: %s", error)
        build.suspects = missing - build.suspects


def _hashed(folder: Path, file: FoundFile) -> ScannedFile:
    """A file with its content hash, pending; or failed when it cannot be read."""
    error, digest = file.error, None
    if error is None:
        try:
            digest = hash_file(os.path.join(folder, file.path))
        except FutuError as failure:
            error = failure
    if error is not None:
        return ScannedFile(
            file.path, file.size, file.mtime_ns, None, FAILED, error.code, error.message
        )
    return ScannedFile(file.path, file.size, file.mtime_ns, digest, PENDING)
