"""Builds: a dataset's folder is scanned, its new contents become jobs, their results are counted.

Rows are committed as pending before their job is enqueued, and a job carries each content once,
however many files have it. What a controller that died had enqueued is taken over by the next.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from futu.catalogue.records import BuildRecord, DatasetRecord
from futu.catalogue.schema import BUILDING, CANCELLED, ERROR, UNCONFIRMED
from futu.catalogue.store import Catalogue
from futu.controller.build import Build, BuildCancelledError
from futu.controller.describe import shortage, withheld
from futu.controller.dispatch import Dispatch
from futu.controller.inherited import Inherited
from futu.controller.lifecycle import Builds
from futu.controller.scan import Scan
from futu.errors import FutuError, MissingFileError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots, display
from futu.index.live import LiveIndexes
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

_SWEEP_EVERY_S = 60.0
_AFTER_ERROR = timedelta(minutes=10)


class Ingest(Builds):
    """All builds of a controller: what is done in one, and which are begun unasked.

    Args:
        catalogue: where files, vectors and builds are recorded.
        queue: where jobs go.
        roots: where pictures may be read.
        indexes: of each question.
        names: question -> name of its model, for messages.
        limits: for reading files.
        batch_size: the most pictures in one job.
        missing_share: see ``Scan``.

    Attributes:
        index_lock: held while catalogue and index are changed together.
        inherited: the jobs that an earlier controller has left.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        queue: JobQueue,
        roots: ImageRoots,
        indexes: LiveIndexes,
        limits: DecodeLimits,
        *,
        names: Mapping[str, str],
        batch_size: int,
        missing_share: float = 0.2,
    ) -> None:
        super().__init__(catalogue, {q: live.model_id for q, live in indexes.items()})
        self._queue = queue
        self._indexes = indexes
        self._names = names
        self._tried: dict[int, set[str]] = {}
        self.inherited = Inherited()
        self.index_lock = threading.Lock()
        self._missing_share = missing_share
        self._scan = Scan(catalogue, roots, self.inherited, missing_share)
        self._dispatch = Dispatch(catalogue, queue, limits, batch_size)
        self._stop = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_on, name="sweep", daemon=True)

    def resume(self) -> None:
        """Take over what an earlier controller left: its jobs and its builds."""
        try:
            self._take_over(adopt=bool(self._catalogue.interrupted_builds()))
        except FutuError as error:
            log.info("jobs of an earlier controller are not taken over: %s", error)
        self.sweep()
        self._sweeper.start()

    def stop(self) -> None:
        """Stop all builds where they are."""
        self._stop.set()
        super().stop()
        if self._sweeper.ident is not None:
            self._sweeper.join()

    def revive(self, hashes: list[bytes]) -> None:
        """Try images with these contents again that were put aside."""
        for dataset_id in self._catalogue.revive(hashes):
            self.start(self._catalogue.dataset(dataset_id), follow=True)

    # --- one build -------------------------------------------------------------------------

    def _work(self, build: Build) -> str:
        self._dispatch.look(build)
        try:
            note = self._scan.run(build, lambda contents: self._dispatch.send(build, contents))
            self._dispatch.finish(build)
        except (BuildCancelledError, MissingFileError):
            try:
                self._dispatch.withdraw(build)
            except FutuError as error:
                name = build.dataset.name
                log.warning("jobs of the ended build of %s stay: %s", name, error)
            raise
        with self.index_lock:
            self._indexes.level(
                self._catalogue.searchable_vector_ids,
                self._catalogue.vectors,
                self._catalogue.version,
            )
        self._indexes.save_soon()
        self._tried[build.dataset.id] = set(build.models) - build.given_up
        return note + self._withheld(build) + self._shortage(build)

    def _withheld(self, build: Build) -> str:
        """What is to be said of files that were not forgotten."""
        if not build.held:
            return ""
        folder, (gone, of) = display(build.folder), build.vanished
        return withheld(build.dataset.name, folder, gone, of, self._missing_share)

    def _shortage(self, build: Build) -> str:
        """What is to be said of vectors that are lacking."""
        note = ""
        for question, model_id in self._models.items():
            if model_id in build.models[1:]:
                lacking = self._catalogue.lacking(build.dataset.id, model_id)
                served = model_id in build.can
                note += shortage(question, lacking, self._names[question], served=served)
        return note

    # --- builds nobody has asked for -------------------------------------------------------

    def _sweep_on(self) -> None:
        while not self._stop.wait(_SWEEP_EVERY_S):
            try:
                self.sweep()
            except Exception:
                log.exception("the sweep failed; again in %.0f s", _SWEEP_EVERY_S)

    def sweep(self) -> None:
        """Go on with builds that were interrupted, and with images that nobody is at."""
        self.write_ends()
        datasets = {build.dataset_id for build in self._catalogue.interrupted_builds()}
        datasets.update(self._catalogue.unfinished_datasets())
        for dataset_id in sorted(datasets):
            dataset = self._catalogue.dataset(dataset_id)
            if self.start_if(dataset, _to_go_on):
                log.info("the work on %s was interrupted; it goes on", dataset.name)
        for dataset in self._to_be_had():
            if self.start_if(dataset, _to_go_on):
                log.info("further vectors of %s are to be had now", dataset.name)

    def _to_be_had(self) -> list[DatasetRecord]:
        """Datasets that lack vectors for which there was no server before, and is one now."""
        try:
            servers = self._queue.servers.alive()
        except FutuError:
            return []
        can = {model_id for server in servers for model_id in server.model_ids}
        return [
            dataset
            for dataset in self._catalogue.datasets()
            for question in dataset.questions[1:]
            if (model_id := self._models[question]) in can
            and model_id not in self._tried.get(dataset.id, ())
            and self._catalogue.lacking(dataset.id, model_id)
        ]

    def _take_over(self, *, adopt: bool) -> None:
        """Keep the jobs that builds to be continued will wait for; take the others back."""
        for entry_id, job in self._queue.unfinished("library"):
            if job.collect and adopt and set(job.model_ids) <= set(self._models.values()):
                self.inherited.add(job)
            elif job.collect:
                self._queue.withdraw(job, entry_id)
        for entry_id, job in self._queue.unfinished("inline"):
            if job.collect:
                self._queue.withdraw(job, entry_id)


def _to_go_on(last: BuildRecord | None) -> bool:
    """Whether to build again; a cancelled one stays so, a failed one is left alone for a while."""
    if last is None or last.state == BUILDING:
        return True
    if last.state in (ERROR, UNCONFIRMED) and last.finished_at is not None:
        return datetime.now(UTC) - last.finished_at > _AFTER_ERROR
    return last.state != CANCELLED
