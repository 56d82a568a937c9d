"""Queries: as many as wait are decoded side by side and run as one batch; nobody waits for more.

A picture that takes long to decode is left out of the batch, and done with the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from futu.compute.hosting import ModelHost
from futu.compute.pipeline import Inputs, Loader, Watch, infer, note
from futu.jobs.message import ItemResult, JobResult
from futu.jobs.streams import Lease
from futu.models.spec import ModelSpec

_PATIENCE_S = 0.25
"""So long a batch waits for its slowest picture."""

_Loaded = tuple[ItemResult, Inputs | None]
_Jobs = list[tuple[Lease, list[ModelSpec]]]


@dataclass(eq=False)
class _Loading:
    """A job whose pictures are being decoded."""

    lease: Lease
    specs: list[ModelSpec]
    futures: list[Future[_Loaded]]
    watches: list[Watch]

    def decoded(self) -> bool:
        return all(future.done() for future in self.futures)


class Queries:
    """Does the queries of one lane.

    Args:
        host: the models.
        loader: decodes.
        server: our name.
        deliver: sends results.
        failed: has a job that could not be done for no fault of a picture.
        hung: has a job over a picture of which a decoder hangs.
        limit_s: the most that decoding may take, seconds.

    Attributes:
        abandoned: threads left behind in decoders that hang.
    """

    def __init__(
        self,
        host: ModelHost,
        loader: Loader,
        server: str,
        *,
        deliver: Callable[[list[tuple[Lease, JobResult]]], None],
        failed: Callable[[Lease, Exception], None],
        hung: Callable[[Lease], None],
        limit_s: float,
    ) -> None:
        self._host = host
        self._loader = loader
        self._server = server
        self._deliver = deliver
        self._failed = failed
        self._hung = hung
        self._limit_s = limit_s
        self._decoders = _decoders()
        self.abandoned = 0

    def close(self) -> None:
        """End the threads that decode."""
        self._decoders.shutdown(wait=False)

    def do(self, jobs: _Jobs) -> None:
        """Do jobs with these models, of which each has at least one."""
        while jobs:
            loading = [self._begin(lease, specs) for lease, specs in jobs]
            end = time.monotonic() + self._limit_s
            while loading and (left_s := end - time.monotonic()) > 0:
                futures = [future for job in loading for future in job.futures]
                wait(futures, min(_PATIENCE_S, left_s))
                ready = [job for job in loading if job.decoded()]
                loading = [job for job in loading if job not in ready]
                if ready:
                    self._answer(ready)
            jobs = self._without_hung(loading) if loading else []

    def _begin(self, lease: Lease, specs: list[ModelSpec]) -> _Loading:
        watches = [Watch() for _ in lease.job.items]
        load = self._loader.load
        futures = [
            self._decoders.submit(load, item, specs, watch)
            for item, watch in zip(lease.job.items, watches)
        ]
        return _Loading(lease, specs, futures, watches)

    def _answer(self, ready: Sequence[_Loading]) -> None:
        """Run the models over jobs that are decoded, and deliver them."""
        pictures = {job: [future.result() for future in job.futures] for job in ready}
        failed: dict[_Loading, Exception] = {}
        for spec in {spec.model_id: spec for job in ready for spec in job.specs}.values():
            wanting = [job for job in ready if spec in job.specs]
            try:
                self._run(spec, [picture for job in wanting for picture in pictures[job]])
            except Exception as error:
                # Not of one picture, whatever it is: the model, memory, the machine.
                failed |= dict.fromkeys(wanting, error)
        answers = []
        for job in ready:
            if job in failed:
                self._failed(job.lease, failed[job])
                continue
            results = [result for result, _ in pictures[job]]
            answers.append((job.lease, JobResult(job.lease.job.job_id, self._server, results)))
        if answers:
            self._deliver(answers)

    def _run(self, spec: ModelSpec, pictures: Sequence[_Loaded]) -> None:
        model_id = spec.model_id
        ready = [(result, inputs[model_id]) for result, inputs in pictures if inputs]
        if ready:
            with self._host.use(spec, "query") as extractor:
                vectors = infer([pixels for _, pixels in ready], extractor)
            note([result for result, _ in ready], vectors, model_id)

    def _without_hung(self, loading: Sequence[_Loading]) -> _Jobs:
        """Hand on the jobs whose decoder hangs; returns those that had no decoder yet.

        A thread that hangs cannot be ended and is left behind.
        """
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._decoders = _decoders()
        others = []
        for job in loading:
            hanging = [w for f, w in zip(job.futures, job.watches) if not f.done()]
            if not hanging:
                others.append((job.lease, job.specs))
                continue
            self.abandoned += sum(not watch.waiting for watch in hanging)
            self._hung(job.lease)
        return others


def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
