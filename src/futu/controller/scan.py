"""The scan of a dataset: which of its files are new or changed, and which contents are."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from futu.catalogue.records import KnownFile, ScannedFile
from futu.catalogue.schema import FAILED, MISSING, PENDING, QUARANTINED, READY
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, BuildCancelledError, Ground, Sent
from futu.errors import FutuError
from futu.images.folder import FoundFile, ImageRoots, display, hash_file, walk
from futu.jobs.message import ImageItem, Job

log = logging.getLogger(__name__)

PERMANENT_ERRORS = frozenset({"not_an_image", "vector_image", "cannot_decode"})
"""A file that failed so is tried again only when it has changed, or on request."""

_SCAN_CHUNK = 256

_Picture = tuple[bytes | None, bytes | None]


class Inherited:
    """Jobs that an earlier controller has left under way; each is given to one build at most.

    One whose result comes in the instant between a scan's look into the catalogue and its claim
    is done again, which changes nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._by_picture: dict[_Picture, str] = {}
        self._heirs: dict[str, Build] = {}

    def add(self, job: Job) -> None:
        """A job that is on its way."""
        with self._lock:
            self._jobs[job.job_id] = job
            self._by_picture.update((_picture(item), job.job_id) for item in job.items)

    def claim(self, build: Build, item: ImageItem, needs: Collection[str]) -> bool:
        """Let a build wait for the job that has a picture, if there is one.

        Args:
            build: with ``lock`` held.
            item: a content that it has just come to wait for.
            needs: model_ids of the vectors that it lacks.
        """
        with self._lock:
            job = self._jobs.get(self._by_picture.get(_picture(item), ""))
            if job is None or set(needs).isdisjoint(job.model_ids):
                return False
            if self._heirs.setdefault(job.job_id, build) is not build:
                return False
            build.outstanding[job.job_id] = Sent(job)
            return True

    def forget(self, job_id: str) -> None:
        """The result of a job has come. To be called before looking who waits for it."""
        with self._lock:
            job = self._jobs.pop(job_id, None)
            self._heirs.pop(job_id, None)
            for item in job.items if job is not None else ():
                self._by_picture.pop(_picture(item), None)


def _picture(item: ImageItem) -> _Picture:
    return item.path, item.content_hash


class Scan:
    """Scans datasets.

    Args:
        catalogue: where the rows of files go.
        roots: where pictures may be read.
        inherited: jobs that need not be sent again.
    """

    def __init__(self, catalogue: Catalogue, roots: ImageRoots, inherited: Inherited) -> None:
        self._catalogue = catalogue
        self._roots = roots
        self._inherited = inherited

    def run(self, build: Build, send: Callable[[Sequence[bytes]], None]) -> None:
        """Look at every file; contents that need a vector are given to ``send`` as they come.

        Raises:
            FutuError: the folder cannot be read.
            BuildStoppedError, BuildCancelledError: the build was asked to end.
        """
        dataset, record = build.dataset, build.record
        build.folder = self._roots.resolve(dataset.folder)
        files = []
        for file in walk(build.folder, self._roots):
            build.check()
            files.append(file)
        known = self._catalogue.known_files(dataset.id, build.models[0])
        with build.lock:
            record.total = len(files)
            build.scanned = True
        self._catalogue.save_build(record)
        log.info("build of %s: %d images in %s", dataset.name, len(files), display(build.folder))
        for start in range(0, len(files), _SCAN_CHUNK):
            send(self._take(build, files[start : start + _SCAN_CHUNK], known))
        seen = {file.path for file in files}
        gone = [k.id for path, k in known.items() if path not in seen and k.state != MISSING]
        build.check()
        if gone:
            self._catalogue.mark_missing(gone)
            record.missing = len(gone)

    def _take(
        self, build: Build, files: Sequence[FoundFile], known: dict[str, KnownFile]
    ) -> list[bytes]:
        """Write the rows of new and changed files; return the contents that need a vector."""
        as_before: Counter[str] = Counter()
        changed: list[ScannedFile] = []
        # Unchanged, but a further vector may be lacking; the first one is there.
        ready: dict[str, bytes] = {}
        further = len(build.models) > 1
        for file in files:
            build.check()
            state = _settled(file, known.get(file.path))
            row = known.get(file.path)
            if state is None:
                changed.append(_hashed(build.folder, file))
            elif further and state == READY and row is not None and row.content_hash is not None:
                ready[file.path] = row.content_hash
            else:
                as_before[state] += 1
        hashes = [file.content_hash for file in changed if file.content_hash is not None]
        hashes += ready.values()
        record = build.record
        with build.lock:
            # The collector holds this lock while it records: a content is either already in
            # the catalogue, or still waited for here, never between the two.
            there = {
                model_id: self._catalogue.vector_ids(hashes, model_id)
                for model_id in (build.models if hashes else ())
            }
            wanted: list[bytes] = []
            rows = [self._row(build, file, there, wanted) for file in changed]
            if not self._catalogue.write_files(build.dataset.id, rows, build.models[0]):
                raise BuildCancelledError  # another build, for other models, is about to follow
            for path, content in ready.items():
                needs = _needs(content, there)
                if needs:
                    self._expect(build, content, path, needs, wanted, "unchanged")
                else:
                    record.unchanged += 1
            record.unchanged += as_before[READY]
            record.failed += as_before[FAILED]
            record.quarantined += as_before[QUARANTINED]
        return wanted

    def _row(
        self,
        build: Build,
        file: ScannedFile,
        there: Mapping[str, Collection[bytes]],
        wanted: list[bytes],
    ) -> ScannedFile:
        """The row of a new or changed file, which is counted or waited for from here on.

        Args:
            build: its build, with ``lock`` held.
            file: failed, or pending with its content hash.
            there: model_id -> contents that have its vector.
            wanted: its content is added when it needs a job.
        """
        content = file.content_hash
        if content is None:
            build.record.failed += 1
        elif not (needs := _needs(content, there)):
            build.record.reused += 1
            return replace(file, state=READY)
        elif build.models[0] not in needs:
            self._expect(build, content, file.path, needs, wanted, "reused")
            return replace(file, state=READY)
        elif (outcome := build.refused.get(content)) is not None:
            build.count_refused(outcome)
            return replace(
                file, state=outcome.state, error_code=outcome.error_code, error=outcome.error
            )
        else:
            self._expect(build, content, file.path, needs, wanted, "reused")
        return file

    def _expect(
        self,
        build: Build,
        content: bytes,
        path: str,
        needs: Collection[str],
        wanted: list[bytes],
        ground: Ground,
    ) -> None:
        item = build.expect(content, path, needs, ground)
        if item is not None and not self._inherited.claim(build, item, needs):
            wanted.append(content)


def _needs(content: bytes, there: Mapping[str, Collection[bytes]]) -> list[str]:
    """The models whose vectors a content lacks."""
    return [model_id for model_id, contents in there.items() if content not in contents]


def _settled(file: FoundFile, row: KnownFile | None) -> str | None:
    """The state of a file that is as it was and is left alone; None when there is work to do."""
    if row is None or (row.size, row.mtime_ns) != (file.size, file.mtime_ns):
        return None
    if row.state == READY and row.vector_id is not None:
        return READY
    if row.state == QUARANTINED or (row.state == FAILED and row.error_code in PERMANENT_ERRORS):
        return row.state
    return None


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
