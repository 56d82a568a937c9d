"""The compute server: threads that lease jobs, decode, infer and deliver.

``workers`` threads do library jobs, each with one-thread model runs, so that they share the
cores without waiting for each other. One further thread, the query lane, does nothing but
queries, with a model session that may use all cores: a query never waits for a library batch to
end. A last thread sends the heartbeats of all leases held and keeps the server registered.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from futu import __version__
from futu.compute.pipeline import infer, load
from futu.config import Settings
from futu.errors import FutuError, JobFailedError, RedisUnavailableError
from futu.images.decode import DecodeLimits
from futu.jobs.connection import Backoff
from futu.jobs.message import ItemError, JobResult, ServerInfo, Stream
from futu.jobs.streams import JobQueue, Lease
from futu.models.extractor import Extractor
from futu.models.registry import DEFAULT_MODEL, ensure_graph, spec
from futu.models.runtime import OnnxRuntime

log = logging.getLogger(__name__)

_QUERIES_AT_ONCE = 16
_BLOCK_S = 0.5


class ComputeServer:
    """See the module. ``run`` returns after ``stop``, when no lease is held any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = DecodeLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._stop = threading.Event()
        self._held: dict[bytes, Lease] = {}
        self._held_lock = threading.Lock()
        self._done: dict[Stream, int] = {"query": 0, "library": 0}
        self._done_lock = threading.Lock()
        self._started_at = time.time()
        self._host = socket.gethostname()
        self.name = f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._queue = JobQueue(
            settings.redis_address, lease_s=settings.lease_s, result_ttl_s=settings.result_ttl_s
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
        workers = self._settings.compute_workers
        log.info(
            "compute server %s: model %s, %d workers, redis %s",
            self.name,
            self._spec.model_id,
            workers,
            "configured" if self._settings.redis_configured else "default",
        )
        threads = [self._thread("query", "query", query, _QUERIES_AT_ONCE)]
        threads += [self._thread(f"library-{n}", "library", library, 1) for n in range(workers)]
        # Registered only now that jobs can be done at once.
        keeper = threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True)
        keeper.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        keeper.join()
        self._say_goodbye()

    def _thread(
        self, lane: str, stream: Stream, extractor: Extractor, count: int
    ) -> threading.Thread:
        consumer = f"{self.name}-{lane}"
        self._consumers.append(consumer)
        return threading.Thread(
            target=self._work, args=(stream, consumer, extractor, count), name=lane, daemon=True
        )

    def _work(self, stream: Stream, consumer: str, extractor: Extractor, count: int) -> None:
        backoff = Backoff(self._stop)
        reclaim_at = 0.0
        decoders = ThreadPoolExecutor(os.cpu_count() or 1) if count > 1 else None
        while not self._stop.is_set():
            try:
                leases = []
                if time.monotonic() >= reclaim_at:
                    leases = self._queue.reclaim(stream, consumer, count=count)
                    if leases:
                        log.warning("took over %d %s jobs of a silent worker", len(leases), stream)
                    reclaim_at = time.monotonic() + self._settings.lease_s / 3
                leases = leases or self._queue.lease(
                    stream, consumer, count=count, block_s=min(_BLOCK_S, self._settings.lease_s / 3)
                )
                if backoff.failures:
                    log.info("redis is back")
                    backoff.reset()
                if leases:
                    self._do(leases, extractor, decoders)
            except RedisUnavailableError as error:
                if backoff.failures == 0:
                    log.warning("%s Trying again until it does.", error)
                backoff.wait()
            except Exception:
                # A worker thread must not die: the lease ends by itself and the job is retried.
                log.exception("%s: a job was dropped", consumer)
                backoff.wait()
        if decoders is not None:
            decoders.shutdown()

    def _do(
        self, leases: list[Lease], extractor: Extractor, decoders: ThreadPoolExecutor | None
    ) -> None:
        with self._held_lock:
            self._held.update({lease.entry_id: lease for lease in leases})
        started = time.monotonic()
        try:
            results = self._results(leases, extractor, decoders)
            for lease, result in zip(leases, results):
                if lease.stream == "library":
                    # Told before the result is, so that whoever has the result can rely on it.
                    self._count(lease)
                    self._queue.register(self._info())
                if self._queue.deliver(lease, result):
                    if lease.stream == "query":
                        self._count(lease)
                    log.debug(
                        "job %s: %d images in %.0f ms",
                        lease.job.job_id,
                        len(lease.job.items),
                        (time.monotonic() - started) * 1000,
                    )
                else:
                    log.warning("job %s was no longer ours; result dropped", lease.job.job_id)
        finally:
            with self._held_lock:
                for lease in leases:
                    self._held.pop(lease.entry_id, None)

    def _count(self, lease: Lease) -> None:
        with self._done_lock:
            self._done[lease.stream] += len(lease.job.items)

    def _results(
        self, leases: list[Lease], extractor: Extractor, decoders: ThreadPoolExecutor | None
    ) -> list[JobResult]:
        """One result for each lease, from one batch over all of them."""
        mapper: Callable[..., object] = decoders.map if decoders and len(leases) > 1 else map
        items = [
            item
            for lease in leases
            if lease.job.model_id == extractor.spec.model_id
            for item in lease.job.items
        ]
        error: FutuError | None = None
        try:
            loaded = list(mapper(lambda item: load(item, self._limits, extractor), items))  # type: ignore[call-overload]
            done = infer(loaded, extractor)
        except FutuError as failure:
            log.error("%d images failed together: %s", len(items), failure)
            error, done = failure, []
        remaining = iter(done)
        results = []
        for lease in leases:
            job, failed = lease.job, error
            if job.model_id != extractor.spec.model_id:
                failed = JobFailedError(
                    f"The job wants model {job.model_id}; this compute server has "
                    f"{extractor.spec.model_id}. Run the same version of Futu everywhere."
                )
            own = [] if failed else [next(remaining) for _ in job.items]
            wire_error = ItemError.of(failed) if failed else None
            results.append(JobResult(job.job_id, job.model_id, self.name, own, wire_error))
            for item, result in zip(job.items, own):
                if result.error is not None:
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
                self._queue.register(self._info())
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
            images_done=self._done["library"],
            queries_done=self._done["query"],
            version=__version__,
        )

    def _say_goodbye(self) -> None:
        try:
            self._queue.unregister(self.name, self._consumers)
        except FutuError as error:
            log.debug("could not unregister: %s", error)
        self._queue.close()
        log.info("compute server %s stopped after %d images", self.name, sum(self._done.values()))
