"""Queries: as many as wait are decoded side by side and run as one batch; nobody waits for more."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from futu.compute.hosting import ModelHost
from futu.compute.pipeline import Inputs, Loader, infer, note
from futu.errors import FutuError
from futu.jobs.message import ItemResult, JobResult
from futu.jobs.streams import Lease
from futu.models.spec import ModelSpec

_Loaded = tuple[ItemResult, Inputs | None]
_Loading = tuple[Lease, list[Future[_Loaded]]]


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

    def do(self, jobs: list[tuple[Lease, list[ModelSpec]]]) -> None:
        """Do jobs with these models, of which each has at least one."""
        loading = [
            (lease, [self._decoders.submit(self._loader.load, i, specs) for i in lease.job.items])
            for lease, specs in jobs
        ]
        _, late = wait([f for _, futures in loading for f in futures], self._limit_s)
        if late:
            loading = self._without(late, loading)
        done = [(lease, [future.result() for future in futures]) for lease, futures in loading]
        wanted = {spec.model_id: spec for _, specs in jobs for spec in specs}
        try:
            for spec in wanted.values():
                self._run(spec, [picture for _, pictures in done for picture in pictures])
        except (FutuError, MemoryError) as error:
            for lease, _ in done:
                self._failed(lease, error)
            return
        answers = []
        for lease, pictures in done:
            results = [result for result, _ in pictures]
            answers.append((lease, JobResult(lease.job.job_id, self._server, results)))
        if answers:
            self._deliver(answers)

    def _run(self, spec: ModelSpec, pictures: Sequence[_Loaded]) -> None:
        model_id = spec.model_id
        ready = [(r, inputs[model_id]) for r, inputs in pictures if inputs and model_id in inputs]
        if ready:
            with self._host.use(spec, "query") as extractor:
                vectors = infer([pixels for _, pixels in ready], extractor)
            note([result for result, _ in ready], vectors, model_id)

    def _without(self, late: set[Future[_Loaded]], loading: list[_Loading]) -> list[_Loading]:
        """Hand on the jobs whose decoder hangs. Its thread cannot be ended and is left behind."""
        self.abandoned += len(late)
        self._decoders.shutdown(wait=False)
        self._decoders = _decoders()
        for lease, futures in loading:
            if not late.isdisjoint(futures):
                self._hung(lease)
        return [(lease, futures) for lease, futures in loading if late.isdisjoint(futures)]


def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
