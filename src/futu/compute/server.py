"""The compute server: lanes that lease, workers that decode and run models, one that keeps watch.

The lane ``library`` leases jobs of datasets for its workers (see ``Batcher``). The lane ``query``
does nothing but queries, with workers of its own and models that may use all cores: a query never
waits for pictures of datasets to end. The keeper sends the heartbeats of all leases held, keeps the
server registered, gives back idle models, and takes jobs from decoders that hang. What has killed
its worker, or hung, is done in a process apart (see ``Attempts``).

A server takes jobs by path until it finds a whole job of which it can read no file as the
controller saw it; for a while it is then blind, and takes only jobs that carry the bytes. Jobs by
path it leaves to servers that see the files; where there are none, it hands them back at once as
unseen, and the controller sends the bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from futu import __version__
from futu.compute.answers import Answers
from futu.compute.apart import Apart
from futu.compute.attempts import Attempts
from futu.compute.batching import Batcher
from futu.compute.gate import MemoryGate
from futu.compute.hosting import ModelHost
from futu.compute.keeper import Keeper
from futu.compute.lanes import HeldLeases, Lane
from futu.compute.outgoing import Outgoing
from futu.compute.pipeline import Loader
from futu.compute.report import Report
from futu.compute.trial import Models, Trial
from futu.config import Settings
from futu.errors import FutuError, ModelError, NoModelError, RedisUnavailableError
from futu.images.decode import DecodeLimits
from futu.jobs.connection import Outage
from futu.jobs.measures import Measures
from futu.jobs.message import (
    OLDEST_READABLE,
    SCHEMA_VERSION,
    ItemError,
    JobResult,
    ServerInfo,
    Stream,
)
from futu.jobs.streams import JobQueue, Lease
from futu.models.choice import Choice
from futu.models.memory import keep_large_blocks_apart
from futu.models.registry import default_spec
from futu.models.runtime import CPU_BATCH
from futu.models.spec import QUESTIONS, ModelSpec
from futu.models.store import model_file
from futu.tracing import about

log = logging.getLogger(__name__)

_AHEAD_A_WORKER = 6
_QUERY_WORKERS = max(4, os.cpu_count() or 1)
_COALESCE_S = 0.002
_ROOM_S = 0.2
_MOST_ABANDONED = 3


class ComputeServer:
    """See the module. ``run`` returns after ``stop``, when no lease is held any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._held = HeldLeases()
        self._measures = Measures()
        self._report = Report(self._about, self._measures)
        self._outage = Outage()
        self._started_at = time.time()
        self._host = socket.gethostname()
        self.name = f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._queue = JobQueue(
            settings.redis_address,
            lease_s=settings.lease_s,
            result_ttl_s=settings.result_ttl_s,
            max_bytes=settings.queue_bytes,
        )
        limits = DecodeLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._models = ModelHost(settings, settings.compute_workers)
        self._answers = Answers(
            self._queue,
            self.name,
            self._held,
            self._stop,
            self._outage,
            self._about,
            self._measures,
        )
        choice = Choice.of(settings)
        timeout_s = settings.feature_timeout
        trial = Trial(self._in_place, limits, settings.decode_bytes, timeout_s, choice)
        self._attempts = Attempts(
            self._queue, trial, self.name, settings.max_deliveries, self._measures
        )
        loader = Loader(limits, MemoryGate(settings.decode_bytes))
        self._outgoing = Outgoing(self._answers.deliver)
        batcher = partial(
            Batcher,
            self._models,
            loader,
            self.name,
            self._stop,
            failed=self._again,
            measures=self._measures,
        )
        self._library = batcher(
            lane="library",
            workers=settings.compute_workers,
            ahead=_AHEAD_A_WORKER * settings.compute_workers,
            batch=self._models.batch,
            finished=self._outgoing.put,
        )
        self._queries = batcher(
            lane="query",
            workers=_QUERY_WORKERS,
            ahead=_QUERY_WORKERS,
            batch=lambda _: CPU_BATCH,
            coalesce_s=_COALESCE_S,
            finished=self._answers.deliver,
        )
        self._apart = Apart(
            self._attempts, self._outage, done=self._answers.count, let_go=self._held.drop
        )
        self._keeper = Keeper(
            self._queue,
            self._held,
            self._models,
            self._stop,
            about=self._about,
            report=self._report,
            each_round=self._look_for_hung,
        )
        lane = partial(
            Lane,
            self._queue,
            held=self._held,
            stop=self._stop,
            outage=self._outage,
            measures=self._measures,
        )
        self._lanes = [
            lane(
                f"{self.name}-query",
                streams=lambda: ("query",),
                count=CPU_BATCH,
                take=lambda leases: self._submit(self._queries, leases),
                room=partial(self._queries.room, _ROOM_S),
            ),
            lane(
                f"{self.name}-library",
                streams=self._library_streams,
                count=1,
                take=lambda leases: self._submit(self._library, leases),
                room=partial(self._library.room, _ROOM_S),
            ),
        ]

    def stop(self) -> None:
        """Finish the jobs in hand, lease no more. Returns at once; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            ModelError: the model for ``similar`` is not in place or cannot be loaded.
            SettingsError: the runtime or device of the settings is not to be had here.
        """
        keep_large_blocks_apart()
        with self._models.use(self._models.first, "query"):
            pass
        log.info(
            "compute server %s: models %s, %d workers, redis %s",
            self.name,
            ", ".join(self._models.specs()),
            self._settings.compute_workers,
            "configured" if self._settings.redis_configured else "default",
        )
        self._outgoing.start()
        self._library.start()
        self._queries.start()
        # Registered only now that jobs can be done at once.
        self._apart.start()
        keeper = threading.Thread(target=self._keeper.run, name="keeper", daemon=True)
        threads = [
            threading.Thread(target=lane.run, name=lane.consumer.rpartition("-")[0], daemon=True)
            for lane in self._lanes
        ]
        warm = threading.Thread(target=self._warm_up, name="warm-up", daemon=True)
        for thread in (keeper, *threads, warm):
            thread.start()
        try:
            for thread in threads:
                thread.join()
            # The others may hand some of their jobs on to the last.
            for stop in (self._queries.stop, self._library.stop, self._apart.stop):
                for lease in stop():
                    self._give_back(lease)
            self._outgoing.close()
            keeper.join()
            # A process that ends while a thread is in foreign code is aborted by it.
            warm.join()
        finally:
            self._attempts.close()
        self._say_goodbye()

    def _warm_up(self) -> None:
        """Load what the first datasets will need, and choose its batches, before they come."""
        for question in QUESTIONS:
            spec = default_spec(question, self._settings)
            try:
                if spec.model_id in self._models.specs() and not self._stop.is_set():
                    self._models.batch(spec)
            except FutuError as error:
                log.error("%s", error)

    @property
    def abandoned(self) -> int:
        """Threads left behind in decoders that hang."""
        return self._library.abandoned + self._queries.abandoned

    # --- lanes ----------------------------------------------------------------------------------

    def _library_streams(self) -> Sequence[Stream]:
        if self._answers.by_path:
            return ("library", "inline")
        return ("inline",) if self._keeper.others_see else ("inline", "library")

    def _submit(self, batcher: Batcher, leases: list[Lease]) -> None:
        self._report.note_waits(leases)
        for lease, specs in self._able(leases):
            if lease.stream == "library" and not self._answers.by_path:
                self._answers.not_here(lease)
            else:
                batcher.submit(lease, specs)

    def _able(self, leases: list[Lease]) -> list[tuple[Lease, list[ModelSpec]]]:
        """The jobs to do here and now, with the models that they want and we have."""
        able = []
        ours = self._models.specs()
        for lease in leases:
            wanted = [ours[name] for name in lease.job.model_ids if name in ours]
            if not wanted and not lease.job.pixels:
                self._answers.deliver([(lease, self._no_model(lease))])
            elif self._attempts.suspicious(lease):
                self._apart.put(lease)
            else:
                able.append((lease, wanted))
        return able

    def _no_model(self, lease: Lease) -> JobResult:
        error = NoModelError(
            f"The job wants {', '.join(lease.job.model_ids)}; this compute server has "
            f"{', '.join(self._models.specs())}. Run the same version of Futu with the same "
            "models everywhere: see futu models list."
        )
        return JobResult(lease.job.job_id, self.name, [], ItemError.of(error))

    def _again(self, lease: Lease, error: Exception) -> None:
        self._let_go(lease, lambda: self._attempts.again(lease, error))

    def _give_back(self, lease: Lease) -> None:
        self._let_go(lease, lambda: self._queue.release(lease))

    def _let_go(self, lease: Lease, how: Callable[[], object]) -> None:
        try:
            with about(lease.job.request_id, lease.job.job_id):
                how()
        except RedisUnavailableError as error:
            log.debug("job %s is left to its lease: %s", lease.job.job_id, error)
        finally:
            self._held.drop(lease)

    def _hung(self, lease: Lease) -> None:
        log.error(
            "job %s: a picture was not decoded within %g s; the job is done apart",
            lease.job.job_id,
            self._settings.feature_timeout,
        )
        self._apart.put(lease)

    def _in_place(self) -> Models:
        found: Models = []
        for spec in self._models.specs().values():
            try:
                found.append((spec, model_file(spec, self._settings.models_dir)))
            except ModelError as error:
                log.warning("%s", error)
        return found

    # --- for the keeper -------------------------------------------------------------------------

    def _look_for_hung(self) -> None:
        for batcher in (self._queries, self._library):
            for lease in batcher.overdue(self._settings.feature_timeout):
                self._hung(lease)
        if self.abandoned >= _MOST_ABANDONED and not self._stop.is_set():
            log.error("%d decoders hang; this compute server ends", self.abandoned)
            self._stop.set()

    def _about(self) -> ServerInfo:
        answers = self._answers
        return ServerInfo(
            server=self.name,
            host=self._host,
            pid=os.getpid(),
            model_ids=list(self._models.specs()),
            workers=self._settings.compute_workers,
            started_at=self._started_at,
            images_done=answers.images_done,
            queries_done=answers.queries_done,
            version=__version__,
            schema_version=SCHEMA_VERSION,
            oldest_readable=OLDEST_READABLE,
            images_per_s=round(answers.rate(), 1),
            by_path=answers.by_path,
        )

    def _say_goodbye(self) -> None:
        try:
            self._queue.servers.unregister(self.name)
            self._queue.retire([lane.consumer for lane in self._lanes])
        except FutuError as error:
            log.debug("could not unregister: %s", error)
        self._queue.close()
        with contextlib.suppress(Exception):
            self._models.close()
        log.info("compute server %s stopped after %d images", self.name, self._answers.images_done)
