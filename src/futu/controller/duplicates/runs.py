"""Runs that look for duplicates: begun, watched, cancelled; begun anew after a crash.

One run over the same datasets at a time; one run works, others wait. A run writes its groups as it
finds them, and they count when it is done: a run that was interrupted leaves nothing to be seen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from futu.catalogue.duplicate_records import DuplicateRunRecord, FoundGroup
from futu.catalogue.duplicate_schema import OPEN, RUNNING
from futu.catalogue.schema import CANCELLED, DONE, ERROR
from futu.catalogue.store import Catalogue
from futu.controller.duplicates.finder import Finders
from futu.controller.duplicates.neighbourhood import Rule
from futu.errors import BusyError, FutuError, NotLeadingError

log = logging.getLogger(__name__)

_GROUPS_AT_ONCE = 500


class _EndedError(Exception):
    """A run was asked to end."""


class Run:
    """A run under way.

    Attributes:
        record: as it is now.
        ended: set when it has ended, in whatever way.
    """

    def __init__(self, record: DuplicateRunRecord, rule: Rule) -> None:
        self.record = record
        self.rule = rule
        self.ended = threading.Event()
        self.stopped = threading.Event()

    def step(self, stage: str, current: int, total: int) -> None:
        """See ``finder.Step``."""
        if self.stopped.is_set():
            raise _EndedError
        self.record.stage, self.record.current, self.record.total = stage, current, total


class DuplicateRuns:
    """The runs of a controller.

    Args:
        catalogue: where they are recorded.
        finders: make their searches.
    """

    def __init__(self, catalogue: Catalogue, finders: Finders) -> None:
        self._catalogue = catalogue
        self._finders = finders
        self._lock = threading.Lock()
        self._under_way: dict[tuple[int, ...], Run] = {}
        self._last: dict[tuple[int, ...], tuple[int, Run]] = {}
        self._stopping = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="duplicates")

    def start(
        self, dataset_ids: Collection[int], preset: str, threshold: float | None = None
    ) -> Run:
        """Begin a run over some datasets, or return the one under way that looks for the same.

        Args:
            dataset_ids: at least one.
            preset: see ``presets``; not looked at when there is a threshold.
            threshold: 0-100.

        Raises:
            InvalidRequestError: there is no such preset, or the threshold is out of range.
            BusyError: a run over the same datasets looks for something else.
        """
        scope = tuple(sorted(set(dataset_ids)))
        rule = self._finders.rule(preset, threshold, scope)
        # Which model serves is read from the catalogue each time.
        model = self._finders.model(scope)
        asked = ("" if threshold is not None else preset, self._finders.shown(rule, model))
        with self._lock:
            run = self._under_way.get(scope)
            if run is not None:
                if (run.record.preset, run.record.threshold) == asked:
                    return run
                raise BusyError(
                    f"Run {run.record.id} over the same datasets is under way with another "
                    "threshold. Wait for it, or cancel it first.",
                    run=run.record.id,
                )
            return self._begin(scope, rule, model.model_id, *asked)

    def fresh(self, dataset_ids: Collection[int], threshold: float) -> Run:
        """As ``start``; the last run, when nothing has changed since and it was the same."""
        scope = tuple(sorted(set(dataset_ids)))
        version, run = self._last.get(scope, (-1, None))
        if run is not None and version == self._catalogue.version():
            same = not run.record.preset and run.record.threshold == threshold
            model_id = self._finders.model(scope).model_id
            if same and run.record.state == DONE and run.record.model_id == model_id:
                return run
        return self.start(dataset_ids, "", threshold)

    def cancel(self, run_id: int) -> bool:
        """End a run; False when it has ended. What earlier runs found stays."""
        with self._lock:
            run = next((r for r in self._under_way.values() if r.record.id == run_id), None)
            if run is None:
                self._catalogue.duplicate_run(run_id)
                return False
            self._close(run, CANCELLED, "Cancelled; nothing was kept.")
        log.info("run %d for duplicates was cancelled", run_id)
        return True

    def progress(self, run_id: int) -> DuplicateRunRecord:
        """A run as it is now.

        Raises:
            NotFoundError: there is none.
        """
        run = next((r for r in list(self._under_way.values()) if r.record.id == run_id), None)
        return replace(run.record) if run else self._catalogue.duplicate_run(run_id)

    def runs(self, offset: int, limit: int) -> list[DuplicateRunRecord]:
        """All runs that are kept, newest first; those under way as they are now."""
        running = {run.record.id: run.record for run in list(self._under_way.values())}
        found = self._catalogue.duplicate_runs(offset, limit)
        return [replace(running.get(record.id, record)) for record in found]

    def resume(self) -> None:
        """Begin anew what an earlier controller was at."""
        for record in self._catalogue.interrupted_duplicates():
            self._catalogue.forget_groups(record.id)
            threshold = None if record.preset else record.threshold
            try:
                self.start(record.dataset_ids, record.preset, threshold)
                log.info("run %d for duplicates was interrupted and begins anew", record.id)
            except FutuError as error:
                ended = replace(record, state=ERROR, message=error.message)
                self._catalogue.save_duplicates(replace(ended, finished_at=datetime.now(UTC)))

    def stop(self) -> None:
        """Leave all runs where they are; the next controller begins them anew."""
        with self._lock:
            self._stopping = True
            for run in self._under_way.values():
                run.stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def _begin(
        self, scope: tuple[int, ...], rule: Rule, model_id: str, preset: str, threshold: float
    ) -> Run:
        record = self._catalogue.start_duplicates(scope, preset, threshold, model_id)
        run = Run(record, rule)
        self._under_way[scope] = run
        if not self._stopping:
            self._pool.submit(self._run, run)
        return run

    def _run(self, run: Run) -> None:
        begun = time.monotonic()
        run_id = run.record.id
        try:
            self._search(run)
        except _EndedError:
            if run.record.state == CANCELLED:
                self._catalogue.forget_groups(run_id)
        except NotLeadingError:
            log.info("run %d for duplicates goes on where the new leader is", run_id)
        except FutuError as error:
            log.error("run %d for duplicates failed: %s", run_id, error)
            self._fail(run, error.message)
        except Exception as error:
            log.exception("run %d for duplicates failed", run_id)
            self._fail(run, f"Unexpected: {error!r}. See the log.")
        else:
            facts = run.record
            log.info(
                "run %d for duplicates: %d images, %d groups, in %.1f s",
                run_id, facts.images, facts.groups, time.monotonic() - begun,
            )  # fmt: skip

    def _search(self, run: Run) -> None:
        catalogue, record = self._catalogue, run.record
        version = catalogue.version()
        search = self._finders.make(run.rule, record.dataset_ids, run.step)
        before = catalogue.last_verdict()
        some: list[FoundGroup] = []
        for group in search.find():
            some.append(group)
            if len(some) == _GROUPS_AT_ONCE:
                self._write(record, some)
                some = []
        self._write(record, some)
        record.images = search.images
        # Decisions that people took meanwhile, looking at an earlier run.
        catalogue.follow_verdicts(before)
        for (state, _), (_, files, size) in catalogue.count_groups(record.id).items():
            if state == OPEN:
                record.duplicates += files
                record.freed_bytes += size
        record.message = " ".join(search.notes)
        with self._lock:
            run.step("done", record.images, record.images)
            self._close(run, DONE, record.message)
            self._last[record.dataset_ids] = version, run
        catalogue.forget_duplicates(record.dataset_ids)

    def _write(self, record: DuplicateRunRecord, groups: Sequence[FoundGroup]) -> None:
        if groups:
            self._catalogue.write_groups(record.id, record.groups + 1, groups)
            record.groups += len(groups)

    def _fail(self, run: Run, message: str) -> None:
        if run.record.state == DONE:
            return
        try:
            self._catalogue.forget_groups(run.record.id)
        except FutuError:
            log.exception("what run %d had found is left", run.record.id)
        with self._lock:
            if run.record.state == RUNNING:
                self._close(run, ERROR, message)

    def _close(self, run: Run, state: str, message: str) -> None:
        """End a run, with the lock held: in the catalogue first, then for those who watch."""
        ended = replace(run.record, state=state, message=message, finished_at=datetime.now(UTC))
        try:
            self._catalogue.save_duplicates(ended)
        except Exception:
            if state == DONE:
                raise
            log.exception("the end of run %d cannot be written", run.record.id)
        run.record = ended
        run.stopped.set()
        self._under_way = {k: r for k, r in self._under_way.items() if r is not run}
        run.ended.set()
