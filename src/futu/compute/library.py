"""Pictures of datasets: decoding and models share the workers, so that none of them waits.

Each worker does one step at a time, on one core: it runs a model when a batch is full, otherwise
it decodes the next picture. So cores are never fought for, what is decoded ahead is bounded by a
batch for each model, and a batch may have pictures of several jobs.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from futu.compute.hosting import ModelHost
from futu.compute.pipeline import Inputs, Loader, Watch, infer, note
from futu.jobs.message import ItemResult, JobResult
from futu.jobs.streams import Lease
from futu.models.runtime import Pixels
from futu.models.spec import ModelSpec

log = logging.getLogger(__name__)

_AHEAD_A_WORKER = 6
"""Undecoded pictures in hand for each worker below which a further job is leased."""


@dataclass(eq=False)
class _Open:
    """A job in hand.

    Attributes:
        specs: the models to run.
        results: of its pictures, as far as known.
        next_item: the first picture that nobody decodes yet.
        steps: decodings and model runs still to come.
        dropped: whether it is no longer ours to finish.
    """

    lease: Lease
    specs: list[ModelSpec]
    results: list[ItemResult]
    steps: int
    next_item: int = 0
    dropped: bool = False


@dataclass(eq=False)
class _Worker:
    """A thread and what it is doing.

    Attributes:
        decoding: the job whose picture it decodes.
        watch: how long it has been at it.
        abandoned: whether another thread has taken its place.
    """

    decoding: _Open | None = None
    watch: Watch = field(default_factory=Watch)
    abandoned: bool = False


_Ready = tuple[_Open, ItemResult, Pixels]


@dataclass
class _Waiting:
    """Decoded pictures that wait for a model."""

    spec: ModelSpec
    batch: int
    pictures: deque[_Ready] = field(default_factory=deque)


class Library:
    """The workers of a compute server for datasets.

    Args:
        host: the models.
        loader: decodes.
        server: our name.
        workers: threads.
        ending: set when no further job is to be begun.
        finished: has the result of a job; called by a worker.
        failed: has a job that could not be done for no fault of a picture.

    Attributes:
        abandoned: threads left behind in decoders that hang.
    """

    def __init__(
        self,
        host: ModelHost,
        loader: Loader,
        server: str,
        workers: int,
        ending: threading.Event,
        *,
        finished: Callable[[Lease, JobResult], None],
        failed: Callable[[Lease, Exception], None],
    ) -> None:
        self._host = host
        self._loader = loader
        self._server = server
        self._finished = finished
        self._failed = failed
        self._open: list[_Open] = []
        self._waiting: dict[str, _Waiting] = {}
        self._ending = ending
        self._changed = threading.Condition()
        self._wanted = workers
        self._workers: list[_Worker] = []
        self.abandoned = 0

    def start(self) -> None:
        """Begin."""
        with self._changed:
            for _ in range(self._wanted):
                self._add_worker()

    def stop(self) -> list[Lease]:
        """Finish the jobs that are begun and return the others."""
        with self._changed:
            self._ending.set()
            untouched = [opened for opened in self._open if opened.next_item == 0]
            for opened in untouched:
                self._drop(opened)
            self._changed.notify_all()
            # Not by joining threads: one that hangs is replaced meanwhile, and never ends.
            self._changed.wait_for(lambda: not self._workers)
        return [opened.lease for opened in untouched]

    def room(self, timeout_s: float) -> bool:
        """Wait until a further job is wanted; False when none is within ``timeout_s``."""
        most = _AHEAD_A_WORKER * self._wanted
        with self._changed:
            return self._changed.wait_for(lambda: self._undecoded() < most, timeout_s)

    def submit(self, lease: Lease, specs: list[ModelSpec]) -> None:
        """Do a job with these models, of which there is at least one."""
        try:
            for spec in specs:
                if spec.model_id not in self._waiting:
                    batch = self._host.batch(spec)
                    with self._changed:
                        self._waiting.setdefault(spec.model_id, _Waiting(spec, batch))
        except Exception as error:
            # As when a model fails later: the job is to be tried again, not left to its lease.
            self._failed(lease, error)
            return
        items = lease.job.items
        if not items:
            self._finished(lease, JobResult(lease.job.job_id, self._server, []))
            return
        opened = _Open(lease, specs, [ItemResult() for _ in items], len(items))
        with self._changed:
            self._open.append(opened)
            self._changed.notify_all()

    def overdue(self, limit_s: float) -> list[Lease]:
        """Take away the jobs over a picture of which a worker has been for so long.

        A thread in a decoder that hangs cannot be ended: it is left behind, and another takes its
        place.
        """
        found = []
        with self._changed:
            for worker in list(self._workers):
                opened = worker.decoding
                if opened is None or not self._loader.late(worker.watch, limit_s):
                    continue
                worker.abandoned = True
                self.abandoned += 1
                self._workers.remove(worker)
                self._add_worker()
                if not opened.dropped:
                    self._drop(opened)
                    found.append(opened.lease)
        return found

    def _add_worker(self) -> None:
        worker = _Worker()
        name = f"library-{len(self._workers)}"
        self._workers.append(worker)
        threading.Thread(target=self._work, args=(worker,), name=name, daemon=True).start()

    def _undecoded(self) -> int:
        return sum(len(o.results) - o.next_item for o in self._open)

    def _drop(self, opened: _Open) -> None:
        """Forget a job; called with the lock held."""
        opened.dropped = True
        if opened in self._open:
            self._open.remove(opened)
        self._changed.notify_all()

    def _work(self, worker: _Worker) -> None:
        while not worker.abandoned:
            with self._changed:
                step = self._next(worker)
                while step is None:
                    if self._ending.is_set() and not self._open:
                        self._workers.remove(worker)
                        self._changed.notify_all()
                        return
                    self._changed.wait()
                    step = self._next(worker)
            try:
                for opened in step():
                    job_id = opened.lease.job.job_id
                    result = JobResult(job_id, self._server, opened.results)
                    self._finished(opened.lease, result)
            except Exception:
                # A worker must not die; the lease ends by itself and the job is tried again.
                log.exception("a job could not be delivered or given back")

    def _next(self, worker: _Worker) -> Callable[[], list[_Open]] | None:
        """The next step, chosen with the lock held: a full batch, a picture, a part of a batch."""
        for waiting in self._waiting.values():
            if len(waiting.pictures) >= waiting.batch:
                return self._run_of(waiting)
        for opened in self._open:
            if opened.next_item == 0 and self._ending.is_set():
                continue
            if opened.next_item < len(opened.results):
                index = opened.next_item
                opened.next_item += 1
                worker.decoding, worker.watch = opened, Watch()
                return lambda: self._decode(worker, opened, index)
        for waiting in self._waiting.values():
            if waiting.pictures:
                return self._run_of(waiting)
        return None

    def _run_of(self, waiting: _Waiting) -> Callable[[], list[_Open]]:
        count = min(waiting.batch, len(waiting.pictures))
        ready = [waiting.pictures.popleft() for _ in range(count)]
        return lambda: self._run(waiting.spec, [r for r in ready if not r[0].dropped])

    def _decode(self, worker: _Worker, opened: _Open, index: int) -> list[_Open]:
        item = opened.lease.job.items[index]
        result, inputs = self._loader.load(item, opened.specs, worker.watch)
        with self._changed:
            if worker.abandoned:
                return []
            worker.decoding = None
            opened.results[index] = result
            self._spread(opened, result, inputs)
            self._changed.notify_all()
            return self._step_done([opened])

    def _spread(self, opened: _Open, result: ItemResult, inputs: Inputs | None) -> None:
        if inputs is None:
            return
        for spec in opened.specs:
            opened.steps += 1
            self._waiting[spec.model_id].pictures.append((opened, result, inputs[spec.model_id]))

    def _run(self, spec: ModelSpec, ready: list[_Ready]) -> list[_Open]:
        if not ready:
            return []
        try:
            with self._host.use(spec, "library") as extractor:
                vectors = infer([pixels for _, _, pixels in ready], extractor)
            note([result for _, result, _ in ready], vectors, spec.model_id)
        except Exception as error:
            # Not of one picture, whatever it is: the model, memory, the machine.
            failed = {id(opened): opened for opened, _, _ in ready}
            with self._changed:
                fresh = [opened for opened in failed.values() if not opened.dropped]
                for opened in fresh:
                    self._drop(opened)
            for opened in fresh:
                self._failed(opened.lease, error)
            return []
        with self._changed:
            return self._step_done([opened for opened, _, _ in ready])

    def _step_done(self, steps: list[_Open]) -> list[_Open]:
        """Count steps; returns the jobs that are done by them. Called with the lock held."""
        done = []
        for opened in steps:
            opened.steps -= 1
            if opened.steps == 0 and not opened.dropped:
                self._drop(opened)
                done.append(opened)
        return done
