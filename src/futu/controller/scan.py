"""The scan of a dataset: which of its files are new, changed or gone, and which contents are."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from futu.catalogue.records import KnownFile, ScannedFile
from futu.catalogue.schema import FAILED, PENDING, QUARANTINED, READY
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, Ground
from futu.controller.inherited import Inherited
from futu.controller.known import is_fresh, same_facts, settled
from futu.controller.vanished import Vanished, sort_out
from futu.errors import FutuError, MissingFileError, OutsideRootsError
from futu.images.folder import ImageRoots, display, has_picture_name, hash_file
from futu.images.walk import FoundFile, require_disk, walk

log = logging.getLogger(__name__)

_FIRST_CHUNK, _SCAN_CHUNK = 32, 256
"""Files whose contents are hashed at once: few at first, lest compute servers wait for them."""
_CHECK_EVERY = 1024

_Known = dict[str, KnownFile]


class Scan:
    """Scans datasets.

    Args:
        catalogue: where the rows of files go.
        roots: where pictures may be read.
        inherited: jobs that need not be sent again.
        missing_share: the share of a dataset's files, 0 to 1, of which more may not vanish
            without being confirmed.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        roots: ImageRoots,
        inherited: Inherited,
        missing_share: float,
    ) -> None:
        self._catalogue = catalogue
        self._roots = roots
        self._inherited = inherited
        self._missing_share = missing_share

    def run(self, build: Build, send: Callable[[Sequence[bytes]], None]) -> str:
        """Look at every file; contents that need a vector are given to ``send`` as they come.

        Returns:
            What is to be said of folders that could not be looked into.

        Raises:
            FutuError: the folder cannot be read, or its disk was taken away.
            BuildStoppedError, BuildCancelledError: the build was asked to end.
        """
        dataset, record = build.dataset, build.record
        try:
            build.folder = self._roots.resolve(dataset.folder)
        except MissingFileError as error:
            raise MissingFileError(
                f"The folder {display(dataset.folder)} is not there. Nothing was forgotten: mount "
                "its disk and index again.",
                path=display(dataset.folder),
            ) from error
        found: list[FoundFile] = []
        for file in walk(build.folder, self._roots):
            found.append(file)
            if len(found) % _CHECK_EVERY == 0:
                build.check()
        known = self._catalogue.known_files(dataset.id, build.models[0])
        vanished = Vanished.before(known.values())
        as_before, work, closed = self._compare(build, found, known)
        with build.lock:
            record.total = len(work) + as_before.total()
            _count(build, as_before)
            build.scanned = True
        self._catalogue.save_build(record)
        log.info("build of %s: %d images in %s", dataset.name, record.total, display(build.folder))
        contents: set[bytes] = set()
        taken, count = 0, _FIRST_CHUNK
        while taken < len(work):
            send(self._take(build, work[taken : taken + count], contents))
            taken, count = taken + count, min(2 * count, _SCAN_CHUNK)
        build.check()
        kept = sort_out(vanished, known, closed, contents)
        build.held = vanished.held(self._missing_share, confirmed=record.confirm_missing)
        build.vanished = len(vanished.gone), vanished.of
        gone = vanished.moved if build.held else vanished.moved + vanished.gone
        if gone:
            self._catalogue.mark_missing(gone)
            record.missing = len(gone)
        return _unseen(closed, kept)

    def _compare(
        self, build: Build, found: Sequence[FoundFile], known: _Known
    ) -> tuple[Counter[str], list[tuple[FoundFile, KnownFile | None]], list[FoundFile]]:
        """Part what is as it was from what is not.

        Args:
            build: asked now and then whether it may go on.
            found: by the walk.
            known: from it is taken what was found; what stays has vanished.

        Returns:
            How many are as they were, by state; the others with what was known of them; the
            folders that cannot be looked into.
        """
        # Unchanged, but a further vector may be lacking; the first one is there.
        further = any(
            self._catalogue.lacking(build.dataset.id, model_id) for model_id in build.models[1:]
        )
        as_before: Counter[str] = Counter()
        unchanged = 0
        work: list[tuple[FoundFile, KnownFile | None]] = []
        closed: list[FoundFile] = []
        for number, file in enumerate(found):
            if number % _CHECK_EVERY == 0:
                build.check()
            row = known.get(file.path)
            if file.error is not None:
                if file.closed:
                    closed.append(file)
                if row is None and _may_be_no_picture(file):
                    continue
                if row is not None and row.content_hash is not None and not file.closed:
                    if isinstance(file.error, MissingFileError):
                        continue  # a link to nothing: gone, as its file is
                    if file.error.code == "unreadable" and settled(row) == READY:
                        as_before[READY] += 1
                        del known[file.path]
                        continue
            elif row is not None and row.size == file.size and row.mtime_ns == file.mtime_ns:
                state = settled(row)
                if state is not None and not is_fresh(row) and not (further and state == READY):
                    del known[file.path]
                    if state == READY:
                        unchanged += 1
                    else:
                        as_before[state] += 1
                    continue
            known.pop(file.path, None)
            work.append((file, row))
        as_before[READY] += unchanged
        return as_before, work, closed

    def _take(
        self,
        build: Build,
        files: Sequence[tuple[FoundFile, KnownFile | None]],
        contents: set[bytes],
    ) -> list[bytes]:
        """Write the rows of new and changed files; return the contents that need a vector.

        Args:
            build: theirs.
            files: with what was known of them.
            contents: those that are new under their path are added.
        """
        as_before: Counter[str] = Counter()
        changed: list[ScannedFile] = []
        confirmed: list[int] = []
        # Unchanged, but a further vector may be lacking; the first one is there.
        ready: dict[str, bytes] = {}
        now_ns = time.time_ns()
        for file, row in files:
            build.check()
            state = settled(row) if row is not None and same_facts(file, row) else None
            if state is None or row is None or row.content_hash is None:
                changed.append(_hashed(build, file, now_ns))
                continue
            if is_fresh(row):
                again = _hashed(build, file, now_ns)
                if again.content_hash != row.content_hash:
                    changed.append(again)
                    continue
                confirmed.append(row.id)
            if state == READY and len(build.models) > 1:
                ready[file.path] = row.content_hash
            else:
                as_before[state] += 1
        hashes = [file.content_hash for file in changed if file.content_hash is not None]
        contents.update(hashes)
        hashes += ready.values()
        if confirmed:
            self._catalogue.confirm_files(confirmed, now_ns)
        with build.lock:
            # The collector holds this lock while it records: a content is either already in
            # the catalogue, or still waited for here, never between the two.
            there = {
                model_id: self._catalogue.vector_ids(hashes, model_id)
                for model_id in (build.models if hashes else ())
            }
            wanted: list[bytes] = []
            rows = [self._row(build, file, there, wanted) for file in changed]
            self._catalogue.write_files(build.dataset.id, rows)
            for path, content in ready.items():
                needs = _needs(content, there)
                if needs:
                    self._expect(build, content, path, needs, wanted, "unchanged")
                else:
                    build.record.unchanged += 1
            _count(build, as_before)
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


def _count(build: Build, as_before: Counter[str]) -> None:
    """Count files that are left as they were; with ``lock`` held."""
    build.record.unchanged += as_before[READY]
    build.record.failed += as_before[FAILED]
    build.record.quarantined += as_before[QUARANTINED]


def _may_be_no_picture(file: FoundFile) -> bool:
    """Whether a file without a picture's name could not be looked into; it is none of ours."""
    if file.closed or isinstance(file.error, OutsideRootsError):
        return False
    return not has_picture_name(file.path)


def _hashed(build: Build, file: FoundFile, now_ns: int) -> ScannedFile:
    """A file with its content hash, pending; or failed when it cannot be read.

    Raises:
        MissingFileError: the whole folder is gone, so that nothing can be said of the file.
    """
    error, digest = file.error, None
    if error is None:
        try:
            digest = hash_file(os.path.join(build.folder, file.path))
        except FutuError as failure:
            require_disk(build.folder)
            error = failure
    facts = (file.path, file.size, file.mtime_ns, digest)
    if error is not None:
        return ScannedFile(*facts, FAILED, error.code, error.message, scanned_at_ns=now_ns)
    return ScannedFile(*facts, PENDING, scanned_at_ns=now_ns)


def _unseen(closed: Sequence[FoundFile], kept: int) -> str:
    """What is said of folders that nobody could look into."""
    if not closed:
        return ""
    first = f"{display(closed[0].path)}: {closed[0].error}"
    more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
    return (
        f" Folders that cannot be looked into ({first}{more}): {kept} known images in them stay as "
        "they were."
    )
