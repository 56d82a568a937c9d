"""The states of builds. Every change of one is made here, under one lock.

    start --> queued --> running --> done | unconfirmed | error
                |           |
                `-----------`------> cancelled

A controller may be killed, and its database may refuse to write, at any instant. Therefore:

- A build is in the catalogue before it is anywhere else. One that is ``building`` there and that
  nobody is at was interrupted; the build that continues it closes it in one transaction.
- An end is written to the catalogue and then shown. Whoever has seen it begins a new build with
  the next request; before that, a request shares the one under way.
- A cancelled build is so in the catalogue before its thread knows; the thread lets go later, and
  only then does the thread of the dataset's next build begin.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from futu import tracing
from futu.catalogue.records import BuildRecord, DatasetRecord
from futu.catalogue.schema import BUILDING, CANCELLED, DONE, ERROR, UNCONFIRMED
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, BuildCancelledError, BuildStoppedError
from futu.controller.describe import describe, summary
from futu.controller.serving import Serving
from futu.errors import FutuError, NotLeadingError

log = logging.getLogger(__name__)

_BUILDS_AT_ONCE = 2


class Builds(abc.ABC):
    """The builds of a controller: one for each dataset, a few at a time.

    Args:
        catalogue: where builds are recorded.
        serving: which models datasets have.
    """

    def __init__(self, catalogue: Catalogue, serving: Serving) -> None:
        self._catalogue = catalogue
        self._serving = serving
        # Held while a state changes, also over the write to the catalogue. Whoever only looks
        # takes no lock: this mapping is replaced, never changed.
        self._lock = threading.Lock()
        self._under_way: Mapping[int, Build] = {}
        self._at_work: dict[int, tuple[Build, Future[None]]] = {}
        self._unwritten: dict[int, BuildRecord] = {}
        self._stopping = False
        self._pool = ThreadPoolExecutor(_BUILDS_AT_ONCE, thread_name_prefix="build")

    @abc.abstractmethod
    def _work(self, build: Build) -> str:
        """Do a build.

        Returns:
            What is to be said beside its counts.

        Raises:
            BuildStoppedError, BuildCancelledError: it was asked to end.
        """

    # --- asked for -------------------------------------------------------------------------

    def start(
        self,
        dataset: DatasetRecord,
        *,
        questions: Sequence[str] | None = None,
        retry_failed: bool = False,
        confirm_missing: bool = False,
        follow: bool = False,
    ) -> Build:
        """Begin a build, or return the one under way.

        Args:
            dataset: what to build.
            questions: those that it answers from now on; a build under way that was begun for
                others is followed by one for these.
            retry_failed: whether files that failed or were put aside are tried again: by this
                build or, when one is under way that may have passed them, by one after it.
            confirm_missing: whether files that are gone are forgotten however many they are; by
                the build under way too, if it has not come to that.
            follow: files were set to wait for their vectors; as above.
        """
        with self._lock:
            if questions is not None:
                follow |= self._catalogue.set_questions(dataset.id, questions)
            build = self._under_way.get(dataset.id)
            if build is None:
                return self._begin(
                    dataset, retry_failed=retry_failed, confirm_missing=confirm_missing
                )
            if confirm_missing:
                with build.lock:
                    build.record.confirm_missing = build.again_confirms = True
                    self._catalogue.save_build(build.record)
                follow = True
            if retry_failed and self._catalogue.retry_failed(dataset.id):
                follow = True
            build.again |= follow
            return build

    def start_if(
        self, dataset: DatasetRecord, wanted: Callable[[BuildRecord | None], bool]
    ) -> bool:
        """Begin a build if none is under way and the last one, if any, is as wanted."""
        with self._lock:
            if dataset.id in self._under_way:
                return False
            last = self._catalogue.last_build(dataset.id)
            if not wanted(last):
                return False
            interrupted = last is not None and last.state == BUILDING
            confirmed = interrupted and last is not None and last.confirm_missing
            self._begin(dataset, confirm_missing=confirmed)
            return True

    def change_models(
        self, dataset: DatasetRecord, change: Callable[[], bool], *, build: bool = True
    ) -> None:
        """Change the models of a dataset in the catalogue, and build it.

        Args:
            dataset: whose.
            change: does it; whether a build under way makes the wrong vectors from then on, and
                is to be put in place of by a new one.
            build: whether a build is wanted when none is under way.
        """
        with self._lock:
            stale = change()
            under_way = self._under_way.get(dataset.id)
            if under_way is None:
                if build:
                    self._begin(dataset)
            elif stale:
                # Its row is closed by the one that begins, in one step.
                self._take_off(under_way)
                self._begin(dataset, confirm_missing=under_way.record.confirm_missing)
            else:
                under_way.again = True

    def cancel(self, dataset: DatasetRecord) -> bool:
        """End the build of a dataset, and what was to follow; False when none is under way.

        What it has done stays; the next build goes on from there.
        """
        with self._lock:
            build = self._under_way.get(dataset.id)
            if build is None:
                return False
            with build.lock:
                record = build.record
                message = f"Cancelled at {record.current} of {record.total} images."
                self._write_end(build, CANCELLED, f"{message} Index it again to go on.")
            self._take_off(build)
        log.info("build of %s: %s", dataset.name, message)
        return True

    def _take_off(self, build: Build) -> None:
        self._show_ended(build)
        build.cancel()
        holder, future = self._at_work.get(build.dataset.id, (None, None))
        if holder is build and future is not None and future.cancel():
            del self._at_work[build.dataset.id]

    def stop(self) -> None:
        """Stop all builds where they are."""
        with self._lock:
            self._stopping = True
            builds = [build for build, _ in self._at_work.values()]
        for build in builds:
            build.stop()
        self._pool.shutdown(cancel_futures=True)

    # --- looked at -------------------------------------------------------------------------

    def build_of(self, job_id: str) -> Build | None:
        """The build that waits for a job."""
        return next((b for b in self._under_way.values() if job_id in b.outstanding), None)

    def makes(self, dataset: DatasetRecord, model_id: str) -> bool:
        """Whether a build under way makes vectors of a model for a dataset."""
        build = self._under_way.get(dataset.id)
        return build is not None and model_id in build.models

    def under_way(self) -> list[tuple[str, BuildRecord]]:
        """The builds under way, with the names of their datasets."""
        return [(build.dataset.name, build.record) for build in self._under_way.values()]

    def is_under_way(self, dataset: DatasetRecord) -> bool:
        """Whether a build of a dataset has not come to its end."""
        return dataset.id in self._under_way

    def progress(self, dataset: DatasetRecord) -> dict[str, Any]:
        """How far the build under way is, or what came of the last one."""
        build = self._under_way.get(dataset.id)
        if build is not None:
            return describe(build.record, scanned=build.scanned)
        ended = self._unwritten.get(dataset.id)
        return describe(ended or self._catalogue.last_build(dataset.id))

    def described(self, records: Sequence[BuildRecord]) -> list[dict[str, Any]]:
        """Builds as ``progress`` describes them; those under way as they are now."""
        ended = {record.id: record for record in self._unwritten.copy().values()}
        running = {build.record.id: build for build in self._under_way.values()}
        return [
            describe(running[record.id].record, scanned=running[record.id].scanned)
            if record.id in running
            else describe(ended.get(record.id, record))
            for record in records
        ]

    def write_ends(self) -> None:
        """Write the ends that the catalogue has refused before."""
        with self._lock:
            for dataset_id, record in self._unwritten.copy().items():
                self._catalogue.save_build(record)
                del self._unwritten[dataset_id]

    # --- from state to state ---------------------------------------------------------------

    def _begin(
        self, dataset: DatasetRecord, *, retry_failed: bool = False, confirm_missing: bool = False
    ) -> Build:
        # Another process may have imported it.
        self._catalogue.models_changed()
        dataset = self._catalogue.dataset(dataset.id)
        wanted = self._serving.wanted(dataset)
        if len(self._catalogue.served(dataset.id).get(dataset.id, {})) < len(dataset.questions):
            self._catalogue.serve_by_default(dataset.id, wanted.serving)
        record = self._catalogue.start_build(
            dataset.id,
            wanted.ids[0],
            retry_failed=retry_failed,
            confirm_missing=confirm_missing,
        )
        build = Build(dataset, record, wanted.ids)
        self._unwritten.pop(dataset.id, None)
        self._under_way = {**self._under_way, dataset.id: build}
        if dataset.id not in self._at_work:
            self._give_thread(build)
        return build

    def _give_thread(self, build: Build) -> None:
        if not self._stopping:
            future = self._pool.submit(self._run_traced, build)
            self._at_work[build.dataset.id] = build, future

    def _run_traced(self, build: Build) -> None:
        with tracing.about(build.request_id):
            self._run(build)

    def _run(self, build: Build) -> None:
        name, record = build.dataset.name, build.record
        started = time.monotonic()
        try:
            note = self._work(build)
            message = summary(record) + note
            if self._end(build, UNCONFIRMED if build.held else DONE, message):
                log.log(
                    logging.WARNING if build.held else logging.INFO,
                    "build of %s done in %.1f s: %s",
                    name,
                    time.monotonic() - started,
                    message,
                )
        except BuildCancelledError:
            log.debug("the cancelled build of %s has let go", name)
        except BuildStoppedError:
            log.info("build of %s stopped at %d of %d", name, record.current, record.total)
            with contextlib.suppress(NotLeadingError):
                self._catalogue.save_build(record)
        except NotLeadingError:
            log.info("build of %s goes on where the new leader is", name)
        except FutuError as error:
            log.error("build of %s failed: %s", name, error)
            self._end(build, ERROR, error.message)
        except Exception as error:
            log.exception("build of %s failed", name)
            self._end(build, ERROR, f"Unexpected: {error!r}. See the log.")
        finally:
            self._let_go(build)

    def _end(self, build: Build, state: str, message: str) -> bool:
        """End a build, unless it was cancelled before; go on with what is to follow it."""
        with self._lock:
            if self._under_way.get(build.dataset.id) is not build:
                return False
            self._write_end(build, state, message)
            try:
                if build.again:
                    self._begin(build.dataset, confirm_missing=build.again_confirms)
            except Exception:
                log.exception(
                    "no build follows that of %s; the sweep sees to it", build.dataset.name
                )
            finally:
                self._show_ended(build)
            return True

    def _write_end(self, build: Build, state: str, message: str) -> None:
        ended = replace(build.record, state=state, message=message, finished_at=datetime.now(UTC))
        try:
            self._catalogue.save_build(ended)
        except Exception:
            # A full disk must not keep the dataset from being built again.
            log.exception("the end of the build of %s cannot be written", build.dataset.name)
            self._unwritten[build.dataset.id] = ended

    def _show_ended(self, build: Build) -> None:
        self._under_way = {key: b for key, b in self._under_way.items() if b is not build}

    def _let_go(self, build: Build) -> None:
        """The thread of a build ends; a build of the same dataset that has waited for it begins."""
        with self._lock:
            del self._at_work[build.dataset.id]
            waiting = self._under_way.get(build.dataset.id)
            if waiting is not None:
                self._give_thread(waiting)
