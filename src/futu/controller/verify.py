"""Verifying: whether disk, catalogue and index agree; mending where they do not."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from futu.catalogue.records import DatasetRecord
from futu.catalogue.store import Catalogue
from futu.controller.check import Checker, Difference
from futu.controller.ingest import Ingest
from futu.errors import BusyError, FutuError
from futu.images.folder import ImageRoots, display
from futu.index.live import LiveIndexes

log = logging.getLogger(__name__)

MOST_LISTED = 10_000
_LOOK_S = 0.1
_BY_BUILD = frozenset(
    {"file_changed", "content_differs", "not_in_catalogue", "vector_missing", "vector_damaged"}
)


class _StoppedError(Exception):
    """The verification was asked to end."""


@dataclass
class Verification:
    """One verification, under way or ended.

    Attributes:
        number: counts them, from 1.
        datasets: names.
        current: how many files were looked at, of ``total`` or so.
        differences: the first ``MOST_LISTED`` that were found, each with whether it is mended.
        found, mended: how many of each kind.
    """

    number: int
    datasets: list[str]
    deep: bool
    repair: bool
    state: Literal["running", "done", "stopped", "error"] = "running"
    current: int = 0
    total: int = 0
    message: str = ""
    differences: list[tuple[Difference, bool]] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)

    def described(self, offset: int, limit: int) -> dict[str, Any]:
        """As the API shows it, with a page of the differences."""
        left = self.found.total() - self.mended.total()
        return {
            "verification": self.number,
            "state": self.state,
            "datasets": self.datasets,
            "deep": self.deep,
            "repair": self.repair,
            "current": self.current,
            "total": self.total,
            "message": self.message,
            "found": dict(self.found),
            "mended": dict(self.mended),
            "left": left,
            "differences": [
                {
                    "kind": difference.kind,
                    "dataset": difference.dataset,
                    "path": display(difference.path),
                    "detail": difference.detail,
                    "mended": mended,
                }
                for difference, mended in self.differences[offset : offset + limit]
            ],
            "offset": offset,
            "limit": limit,
        }


class Verifier:
    """Verifies one after another, in a thread.

    Args:
        catalogue, roots, indexes, missing_share: see ``Checker``.
        ingest: builds what lacks vectors.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        roots: ImageRoots,
        ingest: Ingest,
        indexes: LiveIndexes,
        *,
        missing_share: float,
    ) -> None:
        self._catalogue = catalogue
        self._ingest = ingest
        self._indexes = indexes
        self._checker = Checker(catalogue, roots, indexes, missing_share)
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self.last: Verification | None = None

    def start(
        self, datasets: Sequence[DatasetRecord] | None, *, deep: bool, repair: bool
    ) -> Verification:
        """Begin a verification.

        Args:
            datasets: which; None: all that were ever indexed, and everything in the indexes.
            deep: hash every file and look at every vector.
            repair: mend what can be mended.

        Raises:
            BusyError: one is under way.
        """
        with self._lock:
            if self.last is not None and self.last.state == "running":
                raise BusyError(
                    "A verification is under way. Wait for its end, or end it with "
                    "futu verify --cancel."
                )
            chosen = datasets
            if chosen is None:
                chosen = [
                    dataset
                    for dataset in self._catalogue.datasets()
                    if self._catalogue.last_build(dataset.id) is not None
                ]
            names = [dataset.name for dataset in chosen]
            run = self.last = Verification(next(self._numbers), names, deep, repair)
            self._halt.clear()
            self._thread = threading.Thread(
                target=self._run, args=(run, chosen, datasets is None), name="verify", daemon=True
            )
            self._thread.start()
            return run

    def cancel(self) -> bool:
        """End the verification under way; False when there is none."""
        run = self.last
        self._halt.set()
        return run is not None and run.state == "running"

    def stop(self) -> None:
        """End it, and wait for that."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, run: Verification, datasets: Sequence[DatasetRecord], whole: bool) -> None:
        try:
            counts = self._catalogue.image_counts()
            run.total = sum(counts.get(dataset.id, 0) for dataset in datasets)
            found = self._check(run, datasets, whole, deep=run.deep)
            run.found.update(difference.kind for difference in found)
            run.differences = [(difference, False) for difference in found[:MOST_LISTED]]
            if run.repair and found:
                self._mend(run, datasets, found)
                # What is mended is not believed but looked at.
                run.message = "Looking again."
                left = set(self._check(run, datasets, whole, suspects=found))
                new = sorted(left.difference(found), key=lambda d: (d.dataset, d.path))
                run.mended.update(d.kind for d in found if d not in left)
                run.found.update(d.kind for d in new)
                listed = [(d, d not in left) for d in found] + [(d, False) for d in new]
                run.differences = listed[:MOST_LISTED]
            run.message, run.state = _summary(run), "done"
        except _StoppedError:
            run.message, run.state = "It was ended before its end.", "stopped"
        except Exception as error:
            log.exception("the verification failed")
            reason = error.message if isinstance(error, FutuError) else repr(error)
            run.message, run.state = f"It failed: {reason} See the log.", "error"
        log.info("verification of %s: %s", ", ".join(run.datasets), run.message)

    def _check(
        self,
        run: Verification,
        datasets: Sequence[DatasetRecord],
        whole: bool,
        *,
        deep: bool = False,
        suspects: Sequence[Difference] = (),
    ) -> list[Difference]:
        """All differences, those of files first."""
        found: list[Difference] = []
        run.current = 0
        for dataset in datasets:
            self._await_build(run, dataset)
            run.message = f"Looking at {dataset.name}."
            paths = {
                d.path
                for d in suspects
                if d.dataset == dataset.name and d.kind == "content_differs"
            }
            for difference in self._checker.dataset(dataset, deep=deep, suspects=paths):
                if self._halt.is_set():
                    raise _StoppedError
                run.current += 1
                if difference is not None:
                    found.append(difference)
        run.message = "Looking at the indexes."
        with self._ingest.index_lock:
            for live in self._indexes.values():
                found += self._checker.index(live, None if whole else datasets)
        return found

    def _mend(
        self, run: Verification, datasets: Sequence[DatasetRecord], found: Sequence[Difference]
    ) -> None:
        """Do about differences what can be done without computing again what is stored."""
        run.message = "Mending."
        gone = [d.key for d in found if d.kind == "file_missing" and d.key is not None]
        if gone:
            self._catalogue.mark_missing(gone)
        damaged = [d.key for d in found if d.kind == "vector_damaged" and d.key is not None]
        if damaged:
            self._catalogue.drop_vectors(damaged)
        for dataset in datasets:
            own = [d for d in found if d.dataset == dataset.name]
            doubted = [d.path for d in own if d.kind == "content_differs"]
            if doubted:
                self._catalogue.doubt_files(dataset.id, doubted)
            if any(d.kind in _BY_BUILD for d in own):
                self._ingest.start(dataset, follow=True)
                self._await_build(run, dataset)
        with self._ingest.index_lock:
            self._indexes.level(self._catalogue.searchable_vector_ids, self._catalogue.vectors)
        self._indexes.save()

    def _await_build(self, run: Verification, dataset: DatasetRecord) -> None:
        while self._ingest.is_under_way(dataset):
            progress = self._ingest.progress(dataset)
            run.message = f"Build of {dataset.name}: {progress['message']}"
            if self._halt.wait(_LOOK_S):
                raise _StoppedError


def _summary(run: Verification) -> str:
    found, mended = run.found.total(), run.mended.total()
    if not found:
        return "Disk, catalogue and index agree."
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(run.found.items()))
    total = "1 difference" if found == 1 else f"{found} differences"
    if not run.repair:
        return f"{total}: {kinds}. futu verify --repair mends what can be mended."
    return f"{total}: {kinds}. {mended} mended, {found - mended} left."
