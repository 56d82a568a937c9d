"""The compute server: threads that lease jobs, decode, infer and deliver.

``workers`` threads do the jobs of datasets, each with one-thread model runs, so that they share
the cores without waiting for each other. One further thread, the query lane, does nothing but
queries, with a model session that may use all cores: a query never waits for a library batch to
end. A last thread sends the heartbeats of all leases held and keeps the server registered.

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
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from futu import __version__
from futu.compute.attempts import Attempts
from futu.compute.pipeline import infer, load
from futu.compute.trial import Trial
from futu.config import Settings
from futu.errors import FutuError, JobFailedError, RedisUnavailableError, UnreadableFileError
from futu.images.decode import DecodeLimits
from futu.jobs.connection import Backoff, Outage
from futu.jobs.message import UNSEEN, ItemError, ItemResult, JobResult, ServerInfo, Stream
from futu.jobs.streams import JobQueue, Lease
from futu.models.extractor import Extractor
from futu.models.registry import DEFAULT_MODEL, ensure_graph, spec
from futu.models.runtime import OnnxRuntime

log = logging.getLogger(__name__)

_QUERIES_AT_ONCE = 16
_BLOCK_S = 0.5
_INLINE_FOR_S = 60.0
_RATE_OVER_S = 10.0


class ComputeServer:
    """See the module. ``run`` returns after ``stop``, when no lease is held any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = DecodeLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._stop = threading.Event()
        self._held: dict[bytes, Lease] = {}
        self._held_lock = threading.Lock()
        self._images_done = self._queries_done = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._done_lock = threading.Lock()
        self._inline_until = 0.0
        self._others_see = False
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
        self._consumers: list[str] = []
        self._spec = spec(DEFAULT_MODEL)

    def stop(self) -> None:
        """Finish the jobs in hand, lease no more. Returns at once; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            ModelError: the model cannot be loaded.
        """
        graph = ensure_graph(self._spec, self._settings.data_dir / "models")
        cores = os.cpu_count() or 1
        library = Extractor(self._spec, OnnxRuntime(graph, 1))
        query = Extractor(self._spec, OnnxRuntime(graph, cores))
        trial = Trial(self._spec, graph, self._limits, self._settings.feature_timeout)
        attempts = Attempts(self._queue, trial, self.name, self._settings.max_deliveries)
        workers = self._settings.compute_workers
        log.info(
            "compute server %s: model %s, %d workers, redis %s",
            self.name,
            self._spec.model_id,
            workers,
            "configured" if self._settings.redis_configured else "default",
        )
        threads = [self._thread("query", query, attempts, _QUERIES_AT_ONCE)]
        threads += [self._thread(f"library-{n}", library, attempts, 1) for n in range(workers)]
        # Registered only now that jobs can be done at once.
        keeper = threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True)
        keeper.start()
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
            keeper.join()
        finally:
            attempts.close()
        self._say_goodbye()

    def _thread(
        self, lane: str, extractor: Extractor, attempts: Attempts, count: int
    ) -> threading.Thread:
        consumer = f"{self.name}-{lane}"
        self._consumers.append(consumer)
        return threading.Thread(
            target=self._work, args=(consumer, extractor, attempts, count), name=lane, daemon=True
        )

    @property
    def _by_path(self) -> bool:
        return time.monotonic() >= self._inline_until

    def _streams(self, count: int) -> Sequence[Stream]:
        """Where a lane looks for jobs: the query lane takes several at once, the others one."""
        if count > 1:
            return ("query",)
        if self._by_path:
            return ("library", "inline")
        return ("inline",) if self._others_see else ("inline", "library")

    def _work(self, consumer: str, extractor: Extractor, attempts: Attempts, count: int) -> None:
        backoff = Backoff(self._stop)
        reclaim_at = 0.0
        lease_s = self._settings.lease_s
        decoders = ThreadPoolExecutor(os.cpu_count() or 1) if count > 1 else None
        while not self._stop.is_set():
            try:
                leases: list[Lease] = []
                streams = self._streams(count)
                if time.monotonic() >= reclaim_at:
                    for stream in streams:
                        leases += self._queue.reclaim(stream, consumer, count=count)
                    if leases:
                        log.warning("took over %d jobs that were given back or silent", len(leases))
                    else:
                        reclaim_at = time.monotonic() + lease_s / 3
                leases = leases or self._queue.lease(
                    streams, consumer, count=count, block_s=min(_BLOCK_S, lease_s / 3)
                )
                self._outage.ended()
                if leases:
                    self._do(leases, extractor, attempts, decoders)
                backoff.reset()
            except RedisUnavailableError as error:
                self._outage.began(error)
                backoff.wait()
            except Exception:
                # A worker thread must not die: the lease ends by itself and the job is retried.
                log.exception("%s: a job was dropped", consumer)
                backoff.wait()
        if decoders is not None:
            decoders.shutdown()

    def _do(
        self,
        leases: list[Lease],
        extractor: Extractor,
        attempts: Attempts,
        decoders: ThreadPoolExecutor | None,
    ) -> None:
        entries = [lease.entry_id for lease in leases]
        with self._held_lock:
            self._held.update(zip(entries, leases))
        try:
            by_path = self._by_path
            unseen = [lease for lease in leases if lease.stream == "library" and not by_path]
            self._deliver([(lease, self._not_here(lease)) for lease in unseen])
            leases = [lease for lease in leases if lease not in unseen]
            together = [lease for lease in leases if not attempts.suspicious(lease)]
            try:
                results = self._results(together, extractor, decoders) if together else []
            except RedisUnavailableError:
                raise
            except Exception as error:
                # Not of one picture: those are results. The model, memory, the machine.
                for lease in together:
                    attempts.again(lease, error)
                results = []
            self._deliver(list(zip(together, results)))
            for lease in leases:
                if attempts.suspicious(lease) and attempts.apart(lease):
                    self._count(lease)
        finally:
            with self._held_lock:
                for entry_id in entries:
                    self._held.pop(entry_id, None)

    def _not_here(self, lease: Lease) -> JobResult:
        job = lease.job
        error = ItemError.of(
            UnreadableFileError(f"{self.name} does not see the controller's files.")
        )
        return JobResult(
            job.job_id, job.model_id, self.name, [ItemResult(error=error)] * len(job.items)
        )

    def _deliver(self, answers: list[tuple[Lease, JobResult]]) -> None:
        for lease, result in answers:
            self._note_sight(lease, result)
            if lease.stream != "query" and not _all_unseen(result):
                # Told before the result is, so that whoever has the result can rely on it.
                self._count(lease)
        if any(lease.stream != "query" for lease, _ in answers):
            with contextlib.suppress(RedisUnavailableError):
                self._queue.servers.register(self._info())
        for (lease, _), delivered in zip(answers, self._delivered(answers)):
            if not delivered:
                log.warning("job %s was no longer ours; result dropped", lease.job.job_id)
                continue
            log.debug("job %s: %d images done", lease.job.job_id, len(lease.job.items))
            if lease.stream == "query":
                self._count(lease)

    def _note_sight(self, lease: Lease, result: JobResult) -> None:
        """Notice when not one file of a job could be read as the controller saw it."""
        if lease.stream != "library" or not self._by_path:
            return
        if _all_unseen(result):
            log.warning(
                "the files of job %s cannot be read here (%s); for %.0f s this server takes only "
                "jobs that carry the pictures",
                lease.job.job_id,
                lease.job.items[0].name,
                _INLINE_FOR_S,
            )
            self._inline_until = time.monotonic() + _INLINE_FOR_S

    def _delivered(self, answers: list[tuple[Lease, JobResult]]) -> list[bool]:
        """Deliver, waiting for a Redis that is away: the work is not to be lost for that."""
        backoff = Backoff(self._stop)
        while answers:
            try:
                return self._queue.deliver_all(answers)
            except RedisUnavailableError as error:
                if self._stop.is_set():
                    raise
                self._outage.began(error)
                backoff.wait()
        return []

    def _count(self, lease: Lease) -> None:
        images = len(lease.job.items)
        with self._done_lock:
            if lease.stream == "query":
                self._queries_done += images
                return
            self._images_done += images
            self._recent.append((time.monotonic(), images))

    def _rate(self) -> float:
        """Pictures of datasets per second, over the last seconds."""
        now = time.monotonic()
        with self._done_lock:
            while self._recent and self._recent[0][0] < now - _RATE_OVER_S:
                self._recent.popleft()
            return sum(images for _, images in self._recent) / _RATE_OVER_S

    def _results(
        self, leases: list[Lease], extractor: Extractor, decoders: ThreadPoolExecutor | None
    ) -> list[JobResult]:
        """One result for each lease, from one batch over all of them."""
        mapper: Callable[..., object] = decoders.map if decoders and len(leases) > 1 else map
        ours = extractor.spec.model_id
        items = [item for lease in leases if lease.job.model_id == ours for item in lease.job.items]
        loaded = list(mapper(lambda item: load(item, self._limits, extractor), items))  # type: ignore[call-overload]
        remaining = iter(infer(loaded, extractor))
        results = []
        for lease in leases:
            job = lease.job
            if job.model_id != ours:
                error = JobFailedError(
                    f"The job wants model {job.model_id}; this compute server has {ours}. Run "
                    "the same version of Futu everywhere."
                )
                failed = ItemError.of(error)
                results.append(JobResult(job.job_id, job.model_id, self.name, [], failed))
                continue
            own = [next(remaining) for _ in job.items]
            results.append(JobResult(job.job_id, job.model_id, self.name, own))
            for item, result in zip(job.items, own):
                if result.error is not None and result.error.code not in UNSEEN:
                    log.warning("job %s: %s", job.job_id, result.error.message or item.name)
        return results

    def _keep_alive(self) -> None:
        every_s = self._settings.lease_s / 4
        while True:
            with self._held_lock:
                held = list(self._held.values())
            if self._stop.is_set() and not held:
                return
            try:
                self._queue.servers.register(self._info())
                self._others_see = not self._by_path and any(
                    server.by_path for server in self._queue.servers.alive()
                )
                for lease in held:
                    self._queue.heartbeat(lease)
            except FutuError as error:
                log.debug("no heartbeat: %s", error)
            if self._stop.wait(every_s):
                # Stopping: jobs in hand still need their heartbeats.
                time.sleep(min(every_s, 0.05))

    def _info(self) -> ServerInfo:
        return ServerInfo(
            server=self.name,
            host=self._host,
            pid=os.getpid(),
            model_ids=[self._spec.model_id],
            workers=self._settings.compute_workers,
            started_at=self._started_at,
            images_done=self._images_done,
            queries_done=self._queries_done,
            version=__version__,
            images_per_s=round(self._rate(), 1),
            by_path=self._by_path,
        )

    def _say_goodbye(self) -> None:
        try:
            self._queue.servers.unregister(self.name)
            self._queue.retire(self._consumers)
        except FutuError as error:
            log.debug("could not unregister: %s", error)
        self._queue.close()
        log.info("compute server %s stopped after %d images", self.name, self._images_done)


def _all_unseen(result: JobResult) -> bool:
    """Whether not one picture of a job could be read as the controller saw it."""
    return bool(result.items) and all(
        item.error is not None and item.error.code in UNSEEN for item in result.items
    )
