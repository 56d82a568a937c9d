"""The parts of a controller, put together; started and stopped in one stated order."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from futu.catalogue.engine import catalogue_url
from futu.catalogue.records import DatasetRecord
from futu.catalogue.session import Term
from futu.catalogue.store import Catalogue
from futu.config import Settings
from futu.controller.access import Gate
from futu.controller.collector import Collector
from futu.controller.follow import Follower
from futu.controller.ingest import Ingest
from futu.controller.leading import Leadership
from futu.controller.query import Querying
from futu.controller.relay import Relay
from futu.controller.remote import RemotePictures
from futu.controller.search import Search
from futu.controller.thumbnails import Thumbnails
from futu.controller.tokens import keep_token, load_token
from futu.controller.verify import Verifier
from futu.controller.watch import Watcher
from futu.data_dir import take_data_dir
from futu.errors import FutuError, InvalidRequestError, SettingsError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots, display
from futu.images.walk import walk
from futu.index.live import LiveIndex, LiveIndexes
from futu.index.milvus_live import MilvusLiveIndex
from futu.index.milvus_server import MilvusServer, milvus_address
from futu.jobs.admin import JobAdmin
from futu.jobs.lead import LeaderCalls, LeaderLock
from futu.jobs.measures import Measures
from futu.jobs.streams import JobQueue
from futu.models.registry import default_spec
from futu.models.spec import QUESTIONS, Question

log = logging.getLogger(__name__)

_COUNT_CACHE_S = 60.0
_MOST_DEAD = 100_000


class Controller:
    """Catalogue, index, queue, collector, builds and search of one data directory.

    Args:
        settings: all of them.

    Raises:
        SettingsError: the data directory cannot be used or another controller has it, or there
            is no such model as the settings choose.

    Attributes:
        models: question -> the model that answers it.
        indexes: question -> the index of its model's vectors.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models = {question: default_spec(question, settings) for question in QUESTIONS}
        self._lock = take_data_dir(settings.data_dir)
        try:
            settings.datasets_dir.mkdir(parents=True, exist_ok=True)
            self.token = load_token(settings.api_token, settings.data_dir)
        except OSError as error:
            raise SettingsError(
                f"{error.filename or settings.data_dir} cannot be written ({error.strerror}). Make "
                "room, mend its permissions, or choose other folders with --data-dir and "
                "--datasets-dir."
            ) from error
        self.catalogue = Catalogue(catalogue_url(settings.database_url, settings.data_dir))
        if self.catalogue.shared and not settings.api_token:
            self.token = self.catalogue.agree("api_token", self.token)
            keep_token(self.token, settings.data_dir)
        self.gate = Gate(settings, self.token)
        self.roots = ImageRoots([p.absolute() for p in settings.roots])
        self.limits = DecodeLimits(settings.max_image_bytes, settings.max_image_pixels)
        address = milvus_address(settings.index_url, settings.index_token)
        self._index_server = None if address is None else MilvusServer(address)
        self.indexes = LiveIndexes(
            settings.data_dir / "index",
            self.catalogue.identity,
            {q: (model.model_id, model.dimension) for q, model in self.models.items()},
            None if self._index_server is None else self._on_server,
        )
        self._index_lock = threading.Lock()
        self._at_work = False
        self.queue = JobQueue(
            settings.redis_address,
            lease_s=settings.lease_s,
            result_ttl_s=settings.result_ttl_s,
            max_bytes=settings.queue_bytes,
        )
        self.jobs = JobAdmin(self.queue)
        self.measures = Measures()
        self._make_tasks(self.catalogue)
        self.leadership = Leadership(
            self.catalogue,
            LeaderLock(self.queue, settings.lease_s),
            settings.lease_s,
            self._begin,
            self._end,
        )
        self.relay = Relay(LeaderCalls(self.queue), lambda: self.leads)
        self._follower = Follower(
            self.catalogue, self.indexes, self._index_lock, lambda: self.leads
        )
        self.search = Search(
            self.catalogue, self.queue, self.indexes, self.limits, self.models, self.measures
        )
        self.querying = Querying(self.search, self.catalogue, self.roots, self.limits)
        self.remote = RemotePictures(self.limits, settings.url_timeout)
        self.thumbnails = Thumbnails(
            settings.data_dir / "thumbnails", self.roots, self.limits, settings.thumbnail_bytes
        )
        self._counts: dict[int, tuple[float, int, str | None]] = {}
        self._discovery = threading.Lock()

    @property
    def leads(self) -> bool:
        """Whether this controller runs the builds and the collector."""
        return not self.catalogue.shared or (self._at_work and self.leadership.leads)

    def start(self) -> None:
        """Load the index, bring it level with the catalogue, take up what was left undone.

        Of several controllers that share a catalogue, only the leader takes things up.
        """
        self.indexes.load()
        if self.catalogue.shared:
            self._follower.start()
            self.leadership.start()
            return
        self._begin(None)
        if self._index_server is not None:
            self._follower.start()

    def _begin(self, term: Term | None) -> None:
        """Begin what one controller does: alone, or as the leader in a term."""
        if term is not None:
            self._make_tasks(self.catalogue.under(term))
        with self._index_lock:
            self.indexes.level(
                self.catalogue.searchable_vector_ids, self.catalogue.vectors, self.catalogue.version
            )
        self.discover()
        self.collector.start()
        self.ingest.resume()
        self.watcher.start()
        self._at_work = True
        if term is not None:
            self.relay.start()

    def _end(self) -> None:
        """End it."""
        self._at_work = False
        self.relay.stop()
        self._stop_tasks()
        self._make_tasks(self.catalogue)

    def _make_tasks(self, catalogue: Catalogue) -> None:
        """Builds, collector, watching and verifying, not started."""
        self.ingest = ingest = Ingest(
            catalogue,
            self.queue,
            self.roots,
            self.indexes,
            self.limits,
            names={q: model.name for q, model in self.models.items()},
            batch_size=self.settings.batch_size,
            missing_share=self.settings.max_missing_share,
        )
        ingest.index_lock = self._index_lock
        self.collector = Collector(catalogue, self.queue, ingest, self.indexes, self.measures)
        self.watcher = Watcher(
            catalogue,
            self.roots,
            lambda dataset: ingest.start_if(dataset, lambda _: True),
            mode=self.settings.watch_mode,
            poll_s=self.settings.watch_poll_s,
        )
        self.verifier = Verifier(
            catalogue,
            self.roots,
            ingest,
            self.indexes,
            missing_share=self.settings.max_missing_share,
        )

    def _stop_tasks(self) -> None:
        """Watching, verifying, builds, collector: in that order."""
        self.watcher.stop()
        self.verifier.stop()
        self.ingest.stop()
        self.collector.stop()

    def _on_server(self, model_id: str, dimension: int) -> LiveIndex:
        server = self._index_server
        assert server is not None  # noqa: S101 - only asked for when there is one
        return MilvusLiveIndex(server, self.catalogue.identity, model_id, dimension)

    def stop(self) -> None:
        """Following, lead, its tasks, index, connections, lock: in that order."""
        self._follower.stop()
        self.leadership.stop()
        self.relay.stop()
        self._stop_tasks()
        self.indexes.close()
        self.indexes.save()
        if self._index_server is not None:
            self._index_server.close()
        self.queue.close()
        self.catalogue.close()
        self._lock.release()

    # --- datasets --------------------------------------------------------------------------

    def discover(self) -> None:
        """Register sub-folders of the datasets folder that are not datasets yet."""
        with self._discovery:
            known = {d.folder for d in self.catalogue.datasets()}
            base = self.settings.datasets_dir.absolute()
            try:
                with os.scandir(base) as entries:
                    names = sorted(e.name for e in entries if e.is_dir())
            except OSError as error:
                log.warning("the datasets folder %s cannot be read: %s", base, error)
                return
            for name in names:
                folder = os.path.realpath(base / name)
                if name.startswith(".") or folder in known:
                    continue
                if not self.roots.contains(folder):
                    log.warning("datasets/%s links to outside the image roots", display(name))
                    continue
                try:
                    self.catalogue.add_dataset(display(name), folder, self.settings.questions)
                    log.info("found dataset %s", display(name))
                except FutuError as error:
                    log.warning("dataset %s is passed over: %s", display(name), error)

    def dataset(self, name_or_id: str | int) -> DatasetRecord:
        """A dataset; folders added since the last look are found.

        Raises:
            UnknownDatasetError: no dataset has that name or id.
        """
        try:
            return self.catalogue.dataset(name_or_id)
        except FutuError:
            self.discover()
            return self.catalogue.dataset(name_or_id)

    def register(
        self, folder: str, name: str | None, questions: Sequence[Question] | None = None
    ) -> DatasetRecord:
        """Make a dataset of a folder inside the roots; one that is a dataset already is returned.

        Args:
            folder: of the pictures.
            name: None: the folder's.
            questions: those that it answers; None: as it was, or those of the settings.

        Raises:
            OutsideRootsError, MissingFileError: see ``ImageRoots.resolve``.
            InvalidRequestError: not a folder, or the name is taken.
        """
        real = self.roots.resolve(folder)
        if not real.is_dir():
            raise InvalidRequestError(f"{display(folder)} is not a folder.", folder=display(folder))
        if str(real) == os.path.realpath(self.settings.datasets_dir):
            raise InvalidRequestError(
                "This is the datasets folder itself; each of its sub-folders is a dataset."
            )
        self.discover()
        for dataset in self.catalogue.datasets():
            if dataset.folder == str(real) and name in (None, dataset.name):
                if questions is not None:
                    self.catalogue.set_questions(dataset.id, questions)
                return self.catalogue.dataset(dataset.id)
        chosen = questions or self.settings.questions
        return self.catalogue.add_dataset(name or display(real.name), str(real), chosen)

    def revive(self, entry_ids: Collection[str] | None = None) -> int:
        """Try pictures again that were put aside; their datasets are built.

        Args:
            entry_ids: of dead letters, as ``JobAdmin.dead`` has them; None means all.

        Returns:
            How many dead letters were dealt with.
        """
        chosen = [
            dead
            for dead in self.jobs.dead(limit=_MOST_DEAD)
            if entry_ids is None or dead.entry_id.decode() in entry_ids
        ]
        hashes = {
            item.content_hash
            for dead in chosen
            for item in dead.letter.job.items
            if item.content_hash is not None
        }
        self.ingest.revive(sorted(hashes))
        self.jobs.forget_dead([dead.entry_id for dead in chosen])
        return len(chosen)

    def overview(self, dataset: DatasetRecord) -> tuple[int, str | None]:
        """For a dataset not indexed yet: its number of pictures and the first one's path.

        Counting walks the folder, so the answer is kept for a minute.
        """
        now = time.monotonic()
        kept = self._counts.get(dataset.id)
        if kept is None or kept[0] < now:
            paths = []
            try:
                paths = [f.path for f in walk(Path(dataset.folder), self.roots) if not f.error]
            except FutuError as error:
                log.warning("dataset %s: %s", dataset.name, error)
            kept = (now + _COUNT_CACHE_S, len(paths), paths[0] if paths else None)
            self._counts[dataset.id] = kept
        return kept[1], kept[2]
