"""Pictures become vectors: decoding and models share the workers, so that none of them waits.

Each worker does one step at a time: it runs a model when a batch is full, otherwise it decodes the
next picture. So cores are never fought for, what is decoded ahead is bounded by a batch for each
model, and a batch may have pictures of several jobs. When there is nothing to decode, a part of a
batch is run; for queries only when those that are being decoded have had a moment to join it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from futu.compute.hosting import Lane, ModelHost
from futu.compute.in_hand import OpenJob, Ready, WaitingPictures, Worker
from futu.compute.pipeline import Inputs, Loader, Watch, infer, note
from futu.jobs.measures import Measures
from futu.jobs.message import ItemResult, JobResult
from futu.jobs.streams import Lease
from futu.models.spec import ModelSpec
from futu.tracing import about

log = logging.getLogger(__name__)

Answer = tuple[Lease, JobResult]

_IN_A_ROW = 8
"""Batches of one model that a worker runs in a row when another model takes its turn with it:
each change of models reads the other's weights anew."""


class Batcher:
    """The workers of a compute server for one kind of job.

    Args:
        host: the models.
        loader: decodes.
        server: our name.
        ending: set when no further job is to be begun.
        lane: whose models are used; those of datasets for full batches side by side.
        workers: threads.
        ahead: undecoded pictures in hand below which a further job is wanted.
        batch: pictures in a full batch of a model.
        coalesce_s: so long a part of a batch waits for pictures that are being decoded.
        finished: has the results of jobs; called by a worker.
        failed: has a job that could not be done for no fault of a picture.
        measures: has the times of decoding and of models, and counts vectors.

    Attributes:
        abandoned: threads left behind in decoders that hang.
    """

    def __init__(
        self,
        host: ModelHost,
        loader: Loader,
        server: str,
        ending: threading.Event,
        *,
        lane: Lane,
        workers: int,
        ahead: int,
        batch: Callable[[ModelSpec], int],
        coalesce_s: float = 0.0,
        finished: Callable[[list[Answer]], None],
        failed: Callable[[Lease, Exception], None],
        measures: Measures | None = None,
    ) -> None:
        self._measures = measures or Measures()
        self._host = host
        self._loader = loader
        self._server = server
        self._lane = lane
        self._ahead = ahead
        self._batch = batch
        self._coalesce_s = coalesce_s
        self._finished = finished
        self._failed = failed
        self._open: list[OpenJob] = []
        self._waiting: dict[str, WaitingPictures] = {}
        self._ending = ending
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._emptied = threading.Condition(self._lock)
        self._wanted = workers
        self._workers: list[Worker] = []
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
        with self._emptied:
            return self._emptied.wait_for(self._has_room, timeout_s)

    def submit(self, lease: Lease, specs: list[ModelSpec]) -> None:
        """Do a job with these models; there is at least one unless it is about pixels."""
        try:
            for spec in specs:
                if spec.model_id not in self._waiting:
                    batch = self._batch(spec)
                    with self._changed:
                        self._waiting.setdefault(spec.model_id, WaitingPictures(spec, batch))
        except Exception as error:
            # As when a model fails later: the job is to be tried again, not left to its lease.
            self._failed(lease, error)
            return
        items = lease.job.items
        if not items:
            self._finished([(lease, JobResult(lease.job.job_id, self._server, []))])
            return
        opened = OpenJob(lease, specs, [ItemResult() for _ in items], len(items))
        with self._changed:
            self._open.append(opened)
            self._changed.notify()

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
        worker = Worker()
        name = f"{self._lane}-{len(self._workers)}"
        self._workers.append(worker)
        threading.Thread(target=self._work, args=(worker,), name=name, daemon=True).start()

    def _has_room(self) -> bool:
        undecoded = sum(len(o.results) - o.next_item for o in self._open)
        return undecoded < self._ahead

    def _drop(self, opened: OpenJob) -> None:
        """Forget a job; called with the lock held."""
        opened.dropped = True
        if opened in self._open:
            self._open.remove(opened)
        self._changed.notify_all()
        self._emptied.notify_all()

    def _work(self, worker: Worker) -> None:
        while not worker.abandoned:
            with self._changed:
                worker.at_work = False
                step = self._next(worker)
                while step is None:
                    if self._ending.is_set() and not self._open:
                        self._workers.remove(worker)
                        self._changed.notify_all()
                        return
                    self._changed.wait(self._patience_s())
                    step = self._next(worker)
                worker.at_work = True
                # One by one: workers woken for nothing take the interpreter from those at work.
                if self._more():
                    self._changed.notify()
            try:
                answers = [
                    (opened.lease, JobResult(opened.lease.job.job_id, self._server, opened.results))
                    for opened in step()
                ]
                if answers:
                    self._finished(answers)
            except Exception:
                # A worker must not die; the lease ends by itself and the job is tried again.
                log.exception("a job could not be delivered or given back")

    def _next(self, worker: Worker) -> Callable[[], list[OpenJob]] | None:
        """The next step, chosen with the lock held: a full batch, a picture, a part of a batch."""
        for waiting in self._waiting.values():
            if len(waiting.pictures) >= self._full(waiting):
                return self._run_of(waiting)
        for opened in self._open:
            if opened.next_item == 0 and self._ending.is_set():
                continue
            if opened.next_item < len(opened.results):
                index = opened.next_item
                opened.next_item += 1
                if self._has_room():
                    self._emptied.notify_all()
                worker.decoding, worker.watch = opened, Watch()
                return lambda: self._decode(worker, opened, index)
        if (self._patience_s() or 0.0) > 0.0:
            return None
        for waiting in self._waiting.values():
            if waiting.pictures:
                return self._run_of(waiting)
        return None

    def _full(self, waiting: WaitingPictures) -> int:
        """Pictures of a full batch, with the jobs that are in hand; with the lock held."""
        several = any(len(opened.specs) > 1 for opened in self._open)
        return waiting.batch * (_IN_A_ROW if several else 1)

    def _at_work(self) -> bool:
        """Whether a worker, other than one that asks, does something; with the lock held."""
        return any(worker.at_work for worker in self._workers)

    def _more(self) -> bool:
        """Whether there is something to do; called with the lock held."""
        return any(waiting.pictures for waiting in self._waiting.values()) or any(
            opened.next_item < len(opened.results) for opened in self._open
        )

    def _patience_s(self) -> float | None:
        """So long the parts of batches wait for company while others are at work; None: no matter.

        Called with the lock held.
        """
        since = [waiting.since for waiting in self._waiting.values() if waiting.pictures]
        if not since or not self._at_work():
            return None
        return max(0.0, min(since) + self._coalesce_s - time.monotonic())

    def _run_of(self, waiting: WaitingPictures) -> Callable[[], list[OpenJob]]:
        full = self._full(waiting)
        count = min(full, len(waiting.pictures))
        ready = [waiting.pictures.popleft() for _ in range(count)]
        # Models that share all cores spend a tenth of their time waiting for each other.
        crowded = count == full and (self._at_work() or self._more())
        lane: Lane = "library" if crowded else self._lane
        return lambda: self._run(waiting.spec, lane, [r for r in ready if not r[0].dropped])

    def _decode(self, worker: Worker, opened: OpenJob, index: int) -> list[OpenJob]:
        job = opened.lease.job
        with self._measures.timed(self._lane, "decode"), about(job.request_id, job.job_id):
            result, inputs = self._loader.load(
                job.items[index], opened.specs, worker.watch, pixels=job.pixels
            )
        with self._changed:
            if worker.abandoned:
                return []
            worker.decoding = None
            opened.results[index] = result
            self._spread(opened, result, inputs)
            return self._step_done([opened])

    def _spread(self, opened: OpenJob, result: ItemResult, inputs: Inputs | None) -> None:
        if inputs is None:
            return
        for spec in opened.specs:
            opened.steps += 1
            waiting = self._waiting[spec.model_id]
            if not waiting.pictures:
                waiting.since = time.monotonic()
            waiting.pictures.append((opened, result, inputs[spec.model_id]))

    def _run(self, spec: ModelSpec, lane: Lane, ready: list[Ready]) -> list[OpenJob]:
        if not ready:
            return []
        try:
            with (
                self._host.use(spec, lane) as extractor,
                self._measures.timed(self._lane, "model"),
            ):
                vectors = infer([pixels for _, _, pixels in ready], extractor)
            self._measures.count_vectors(spec.model_id, len(ready))
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

    def _step_done(self, steps: list[OpenJob]) -> list[OpenJob]:
        """Count steps; returns the jobs that are done by them. Called with the lock held."""
        done = []
        for opened in steps:
            opened.steps -= 1
            if opened.steps == 0 and not opened.dropped:
                self._drop(opened)
                done.append(opened)
        return done
