"""The parts of a controller, put together; started and stopped in one stated order."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from futu.catalogue.engine import catalogue_url
from futu.catalogue.facts import Term
from futu.catalogue.records import ModelRecord
from futu.catalogue.store import Catalogue
from futu.config import Settings
from futu.controller.access import Gate
from futu.controller.calibrations import Calibrations
from futu.controller.collector import Collector
from futu.controller.datasets import Datasets
from futu.controller.duplicates.explaining import Explaining
from futu.controller.duplicates.finder import Finders
from futu.controller.duplicates.known import KnownPictures
from futu.controller.duplicates.pixels import PixelHashes
from futu.controller.duplicates.runs import DuplicateRuns
from futu.controller.extraction import Extraction
from futu.controller.follow import Follower
from futu.controller.ingest import Ingest
from futu.controller.leading import Leadership
from futu.controller.operations import Operations
from futu.controller.query import Querying
from futu.controller.relay import Relay
from futu.controller.remote import RemotePictures
from futu.controller.search import Search
from futu.controller.serving import Serving
from futu.controller.switch import Switch
from futu.controller.thumbnails import Thumbnails
from futu.controller.tokens import keep_token, load_token
from futu.controller.used_indexes import UsedIndexes
from futu.controller.verify import Verifier
from futu.controller.watch import Watcher
from futu.data_dir import take_data_dir
from futu.errors import SettingsError
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots
from futu.index.live import LiveIndex
from futu.index.live_indexes import LiveIndexes
from futu.index.milvus_live import MilvusLiveIndexes
from futu.index.milvus_server import MilvusServer, milvus_address
from futu.jobs.admin import JobAdmin
from futu.jobs.lead import LeaderCalls, LeaderLock
from futu.jobs.measures import Measures
from futu.jobs.streams import JobQueue
from futu.models.registry import default_spec
from futu.models.spec import QUESTIONS
from futu.trash.places import Places

log = logging.getLogger(__name__)

_MOST_DEAD = 100_000


class Controller(Datasets):
    """Catalogue, index, queue, collector, builds and search of one data directory.

    Args:
        settings: all of them.

    Raises:
        SettingsError: the data directory cannot be used or another controller has it, or there
            is no such model as the settings choose.

    Attributes:
        models: question -> the model of datasets that have not been indexed for it.
        serving: which models the others have.
        indexes: of the models in use.
    """

    def __init__(self, settings: Settings) -> None:
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
        catalogue = Catalogue(catalogue_url(settings.database_url, settings.data_dir))
        roots = ImageRoots([p.absolute() for p in settings.roots])
        super().__init__(settings, catalogue, roots)
        if self.catalogue.shared and not settings.api_token:
            self.token = self.catalogue.agree("api_token", self.token)
            keep_token(self.token, settings.data_dir)
        self.gate = Gate(settings, self.token)
        self.limits = DecodeLimits(settings.max_image_bytes, settings.max_image_pixels)
        address = milvus_address(settings.index_url, settings.index_token)
        self._index_server = None if address is None else MilvusServer(address)
        self.indexes = LiveIndexes(settings.data_dir / "index", self.catalogue.identity)
        if self._index_server is not None:
            self.indexes = MilvusLiveIndexes(self._index_server, self.catalogue.identity)
        self.serving = Serving(self.catalogue, self.models, settings.models_dir)
        self._used = UsedIndexes(self.catalogue, self.serving, self.indexes)
        self._at_work = False
        self.queue = JobQueue(
            settings.redis_address,
            lease_s=settings.lease_s,
            result_ttl_s=settings.result_ttl_s,
            max_bytes=settings.queue_bytes,
        )
        self.jobs = JobAdmin(self.queue)
        self._places = Places(self.roots, settings.data_dir / "trash")
        self.calibrations = Calibrations(self.catalogue, self.serving)
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
        self._follower = Follower(self.catalogue, self.indexes, self._used, lambda: self.leads)
        self.extraction = Extraction(self.queue, self.serving, self.measures)
        self.search = Search(self.catalogue, self.indexes, self.serving, self.measures)
        self.querying = Querying(
            self.extraction, self.catalogue, self.serving, self.roots, self.limits
        )
        self.known = KnownPictures(
            self.catalogue, self.search, self.extraction, self.serving, self.limits
        )
        self.remote = RemotePictures(self.limits, settings.url_timeout)
        self.thumbnails = Thumbnails(
            settings.data_dir / "thumbnails", self.roots, self.limits, settings.thumbnail_bytes
        )
        self.edits = Explaining(self.catalogue, self.thumbnails)

    @property
    def leads(self) -> bool:
        """Whether this controller runs the builds and the collector."""
        return not self.catalogue.shared or (self._at_work and self.leadership.leads)

    def start(self) -> None:
        """Load the index, bring it level with the catalogue, take up what was left undone.

        Of several controllers that share a catalogue, only the leader takes things up.
        """
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
            # The former leader may have changed them a moment ago.
            self.catalogue.models_changed()
        self.serving.adopt(self.catalogue if term is None else self.catalogue.under(term))
        self._used.begin()
        self.discover()
        self.operations.take_up()
        self.collector.start()
        self.ingest.resume()
        self.duplicates.resume()
        self.watcher.start()
        self._at_work = True
        if term is not None:
            self.relay.start()

    def index_of(self, model: ModelRecord) -> LiveIndex | None:
        """The index of a model, level with the catalogue; None: the model is not in use."""
        return self._used.level_of(model)

    def _came_home(self, dataset_ids: Sequence[int]) -> None:
        """Images of these datasets are back from the trash, and may be in the index no longer."""
        self._used.level()
        # A build finds what a scan saw of their absence, and lets other controllers follow.
        for dataset_id in dataset_ids:
            self.ingest.start(self.catalogue.dataset(dataset_id), follow=True)

    def _end(self) -> None:
        """End it."""
        self._at_work = False
        self.relay.stop()
        self._stop_tasks()
        self._make_tasks(self.catalogue)

    def _make_tasks(self, catalogue: Catalogue) -> None:
        """Builds, collector, changes of models, watching, verifying, moving and duplicates.

        They write to this catalogue; none is started.
        """
        self.ingest = ingest = Ingest(
            catalogue,
            self.queue,
            self.roots,
            self.indexes,
            self.limits,
            used=self._used,
            serving=self.serving,
            batch_size=self.settings.batch_size,
            missing_share=self.settings.max_missing_share,
        )
        default_id = self.models["similar"].model_id
        self.collector = Collector(
            catalogue, self.queue, ingest, self.indexes, default_id, self.measures
        )
        self.switch = Switch(catalogue, ingest, self.indexes, self.serving)
        self.operations = Operations(
            catalogue, self.roots, self._places, default_id, self._came_home
        )
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
            self.serving,
            missing_share=self.settings.max_missing_share,
        )
        pixels = PixelHashes(
            catalogue, self.queue, self.roots, self.limits, self.settings.batch_feature_timeout
        )
        finders = Finders(
            catalogue,
            pixels,
            self.serving,
            self._used,
            self.settings.keep_rules,
            self.calibrations,
        )
        self.duplicates = DuplicateRuns(catalogue, finders)

    def _stop_tasks(self) -> None:
        """Watching, duplicates, moving, verifying, builds, collector: in that order."""
        self.watcher.stop()
        self.duplicates.stop()
        self.operations.stop()
        self.verifier.stop()
        self.ingest.stop()
        self.collector.stop()

    def stop(self) -> None:
        """Following, lead, its tasks, index, connections, lock: in that order."""
        self._follower.stop()
        self.leadership.stop()
        self.relay.stop()
        self._stop_tasks()
        self._used.close()
        self.indexes.close()
        self.indexes.save()
        if self._index_server is not None:
            self._index_server.close()
        self.queue.close()
        self.catalogue.close()
        self._lock.release()

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
