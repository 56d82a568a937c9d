"""The scan of a dataset: which of its files are new or changed, and which contents are."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from futu.catalogue.records import KnownFile, ScannedFile
from futu.catalogue.schema import FAILED, MISSING, PENDING, QUARANTINED, READY
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, BuildCancelledError, Counted, Sent
from futu.errors import FutuError
from futu.images.folder import FoundFile, ImageRoots, display, hash_file, walk
from futu.jobs.message import ImageItem, Job

log = logging.getLogger(__name__)

PERMANENT_ERRORS = frozenset({"not_an_image", "vector_image", "cannot_decode"})
"""A file that failed so is tried again only when it has changed, or on request."""

_SCAN_CHUNK = 256


class Scan:
    """Scans datasets.

    Args:
        catalogue: where the rows of files go.
        roots: where pictures may be read.

    Attributes:
        adopted: content hash -> a job of an earlier controller that is still on its way.
    """

    def __init__(self, catalogue: Catalogue, roots: ImageRoots) -> None:
        self._catalogue = catalogue
        self._roots = roots
        self.adopted: dict[bytes, Job] = {}

    def run(self, build: Build, send: Callable[[Sequence[ImageItem]], None]) -> None:
        """Look at every file; contents that need a vector are given to ``send`` as they come.

        Raises:
            FutuError: the folder cannot be read; also what ``send`` raises.
        """
        dataset = build.dataset
        folder = self._roots.resolve(dataset.folder)
        files = list(walk(folder, self._roots))
        known = self._catalogue.known_files(dataset.id, build.record.model_id)
        with build.lock:
            build.record.total = len(files)
            build.scanned = True
        self._catalogue.save_build(build.record)
        log.info("build of %s: %d images in %s", dataset.name, len(files), display(folder))
        for start in range(0, len(files), _SCAN_CHUNK):
            if build.cancelled:
                raise BuildCancelledError
            send(self._take(build, folder, files[start : start + _SCAN_CHUNK], known))
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
        record = build.record
        changed: list[ScannedFile] = []
        unchanged = failed = quarantined = 0
        for file in files:
            row = known.get(file.path)
            same = row is not None and (row.size, row.mtime_ns) == (file.size, file.mtime_ns)
            if same and row and row.state == READY and row.vector_id is not None:
                unchanged += 1
            elif same and row and _settled(row, build):
                if row.state == QUARANTINED:
                    quarantined += 1
                else:
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
                elif (outcome := build.refused.get(digest)) is not None:
                    rows.append(
                        replace(
                            scanned,
                            state=outcome.state,
                            error_code=outcome.error_code,
                            error=outcome.error,
                        )
                    )
                    build.count_refused(outcome)
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
                    adopted = self.adopted.pop(digest, None)
                    if adopted is not None:
                        build.outstanding[adopted.job_id] = Sent(adopted)
                    else:
                        items.append(item)
            self._catalogue.write_files(build.dataset.id, rows)
            record.unchanged += unchanged
            record.failed += failed
            record.quarantined += quarantined
        return items


def _settled(row: KnownFile, build: Build) -> bool:
    """Whether an unchanged file that failed before is left alone."""
    if build.retry_failed:
        return False
    return row.state == QUARANTINED or (row.state == FAILED and row.error_code in PERMANENT_ERRORS)


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
