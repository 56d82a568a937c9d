"""A lane of queries, with two small real models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import until
from tests.e2e import copying
from tests.unit.test_library import Decoder, good, held

from futu import config
from futu.compute import queries as module
from futu.compute.gate import MemoryGate
from futu.compute.hosting import ModelHost
from futu.compute.pipeline import infer
from futu.compute.queries import Queries
from futu.errors import ModelError
from futu.jobs.message import ImageItem, Job, JobResult
from futu.jobs.streams import Lease

LIMIT_S = 0.5


class Bench:
    """A lane with one decoder, and what came out of it."""

    def __init__(self, models_dir: Path) -> None:
        settings = config.load(models_dir=models_dir, similar_model="tint", copy_model="grid")
        self.host = ModelHost(settings, 1)
        self.tint, self.grid, *_ = self.host.specs().values()
        self.gate = MemoryGate(10**8)
        self.loader = Decoder(self.gate)
        self.done: dict[str, JobResult] = {}
        self.failed: dict[str, Exception] = {}
        self.hung: list[str] = []
        self.queries = Queries(
            self.host,
            self.loader,
            "server",
            deliver=lambda answers: self.done.update({r.job_id: r for _, r in answers}),
            failed=lambda lease, error: self.failed.update({lease.job.job_id: error}),
            hung=lambda lease: self.hung.append(lease.job.job_id),
            limit_s=LIMIT_S,
        )

    def do(self, *jobs: tuple[str, list[Any], ImageItem]) -> None:
        self.queries.do(
            [
                (Lease("query", b"1", "c", Job(n, "query", [s.model_id for s in m], [i]), 1), m)
                for n, m, i in jobs
            ]
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, question in (("tint", "similar"), ("grid", "copy")):
        copying.describe(tmp_path, name, question=question)
        copying.put(tmp_path, name)
    monkeypatch.setattr(module, "_decoders", lambda: ThreadPoolExecutor(1))
    made = Bench(tmp_path)
    yield made
    made.loader.go_on.set()
    made.queries.close()
    made.host.close()


def test_query_behind_a_decoder_that_hangs_is_done_by_another(bench: Bench) -> None:
    bench.do(("hangs", [bench.tint], held()), ("waits", [bench.tint], good(2)))
    assert bench.hung == ["hangs"]
    assert bench.queries.abandoned == 1
    assert bench.done["waits"].items[0].vectors
    assert set(bench.done) == {"waits"}


def test_query_that_waits_for_memory_is_handed_on_and_no_decoder_counts_as_hanging(
    bench: Bench,
) -> None:
    with bench.gate.room(10**8, "another"):
        bench.do(("waits", [bench.tint], good(1)))
    assert (bench.hung, bench.queries.abandoned) == (["waits"], 0)


def test_slow_picture_is_left_out_of_the_batch_and_done_when_it_is_there(bench: Bench) -> None:
    def go_on() -> None:
        until(lambda: "quick" in bench.done)
        bench.loader.go_on.set()

    releaser = threading.Thread(target=go_on)
    releaser.start()
    bench.queries._limit_s = 20
    bench.do(("quick", [bench.tint], good(1)), ("slow", [bench.tint], held()))
    releaser.join()
    assert bench.hung == []
    assert set(bench.done) == {"quick", "slow"}
    assert bench.done["slow"].items[0].vectors


def test_fault_of_a_model_fails_the_queries_that_want_it_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ModelError("failed")

    def fails(inputs: Any, extractor: Any) -> Any:
        if extractor.spec is bench.grid:
            raise error
        return infer(inputs, extractor)

    monkeypatch.setattr(module, "infer", fails)
    both, broken = [bench.tint, bench.grid], ImageItem(data=b"no picture", name="broken")
    bench.do(
        ("similar", [bench.tint], good(1)),
        ("copy", [bench.grid], good(2)),
        ("both", both, good(3)),
        ("broken", [bench.tint], broken),
    )
    assert bench.failed == {"copy": error, "both": error}
    assert list(bench.done["similar"].items[0].vectors) == [bench.tint.model_id]
    assert bench.done["broken"].items[0].error is not None
