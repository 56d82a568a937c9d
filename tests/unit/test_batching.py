"""The workers of a compute server, with two small real models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import until
from tests.e2e import copying
from tests.pictures import jpeg

from futu import config
from futu.compute import batching as module
from futu.compute import pipeline
from futu.compute.batching import Answer, Batcher
from futu.compute.gate import MemoryGate
from futu.compute.hosting import Lane, ModelHost
from futu.compute.pipeline import Loader, Watch, infer
from futu.errors import ModelError
from futu.images.decode import DecodeLimits, Picture
from futu.images.info import decode_cost
from futu.jobs.message import ImageItem, ItemResult, Job, JobResult
from futu.jobs.streams import Lease
from futu.models.extractor import preprocess
from futu.models.spec import ModelSpec

BATCH = 4
AHEAD = 6
BUDGET = 10**8


class FixedBatches(ModelHost):
    """The size of batches does not hang on what this machine measures."""

    def batch(self, spec: ModelSpec) -> int:
        with self.use(spec, "library"):
            return BATCH


class Decoder(Loader):
    """A loader that notes what it loads, and stays at pictures named ``held``."""

    def __init__(self, gate: MemoryGate) -> None:
        super().__init__(DecodeLimits(), gate)
        self.loads: list[str] = []
        self.reached = threading.Semaphore(0)
        self.go_on = threading.Event()

    def load(
        self, item: ImageItem, specs: Any, watch: Watch | None = None, *, pixels: bool = False
    ) -> Any:
        self.loads.append(item.name)
        if item.name.startswith("held"):
            self.reached.release()
            self.go_on.wait()
        return super().load(item, specs, watch, pixels=pixels)


class Bench:
    """A batcher and what came out of it."""

    def __init__(
        self,
        models_dir: Path,
        workers: int = 1,
        lane: Lane = "library",
        coalesce_s: float = 0.0,
    ) -> None:
        settings = config.load(models_dir=models_dir, similar_model="tint", copy_model="grid")
        self.host = FixedBatches(settings, workers)
        self.specs = list(self.host.specs().values())
        self.gate = MemoryGate(BUDGET)
        self.loader = Decoder(self.gate)
        self.done: dict[str, JobResult] = {}
        self.failed: dict[str, Exception] = {}
        self.fails: Callable[[], None] = lambda: None
        self._ending = threading.Event()
        self.batcher = Batcher(
            self.host,
            self.loader,
            "server",
            self._ending,
            lane=lane,
            workers=workers,
            ahead=AHEAD * workers,
            batch=self.host.batch,
            coalesce_s=coalesce_s,
            finished=self._finished,
            failed=self._failed,
        )

    def _finished(self, answers: list[Answer]) -> None:
        for lease, result in answers:
            assert result.job_id not in self.done
            self.done[lease.job.job_id] = result
        self.fails()

    def _failed(self, lease: Lease, error: Exception) -> None:
        self.failed[lease.job.job_id] = error
        self.fails()

    def submit(self, name: str, *items: ImageItem, models: int = 2) -> Lease:
        job = Job(name, "inline", [s.model_id for s in self.specs[:models]], list(items))
        lease = Lease("inline", name.encode(), "server", job, 1)
        self.batcher.submit(lease, self.specs[:models])
        return lease

    def all_done(self, *names: str) -> None:
        until(lambda: set(names) <= set(self.done) | set(self.failed))
        assert self.batcher._open == []

    def stop(self) -> list[Lease]:
        self.loader.go_on.set()
        return self.batcher.stop()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two-models")
    copying.describe(folder, "tint", question="similar", resize="centre")
    copying.describe(folder, "grid")
    for name in ("tint", "grid"):
        copying.put(folder, name)
    return folder


@pytest.fixture
def bench(two_models: Path) -> Iterator[Bench]:
    made = Bench(two_models)
    yield made
    made.stop()


@pytest.fixture
def pair(two_models: Path) -> Iterator[Bench]:
    """With two workers."""
    made = Bench(two_models, workers=2)
    yield made
    made.stop()


def good(seed: int, name: str = "good.jpg") -> ImageItem:
    return ImageItem(data=jpeg(seed, (80, 60)), name=name)


def held(name: str = "held.jpg") -> ImageItem:
    return good(1, name)


def alone(bench: Bench, item: ImageItem, spec: ModelSpec) -> Any:
    _, inputs = Loader(DecodeLimits(), bench.gate).load(item, [spec])
    assert inputs is not None
    with bench.host.use(spec, "query") as extractor:
        return infer([inputs[spec.model_id]], extractor)[0]


def vector(result: ItemResult, spec: ModelSpec) -> Any:
    return np.frombuffer(result.vectors[spec.model_id], "<f4")


def test_pictures_of_several_jobs_in_a_batch_keep_their_own_vectors(pair: Bench) -> None:
    broken = ImageItem(data=b"no picture", name="broken")
    jobs = {f"job{n}": [good(10 * n + i) for i in range(3 + n)] for n in range(4)}
    jobs["job2"].insert(1, broken)
    for name, items in jobs.items():
        # Some want both models, others only the first.
        pair.submit(name, *items, models=1 if name == "job3" else 2)
    pair.batcher.start()
    pair.all_done(*jobs)
    assert pair.failed == {}
    for name, items in jobs.items():
        for item, result in zip(items, pair.done[name].items, strict=True):
            if item is broken:
                assert result.error is not None
                assert (result.error.code, result.vectors) == ("not_an_image", {})
                continue
            assert len(result.vectors) == (1 if name == "job3" else 2)
            for spec in pair.specs[: len(result.vectors)]:
                assert vector(result, spec) @ alone(pair, item, spec) > 0.99999
            assert (result.width, result.height) == (80, 60)
    # However many models want a picture, it is decoded once.
    assert len(pair.loader.loads) == sum(map(len, jobs.values()))


def fails_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """The first batch fails; returns the sizes of all."""
    sizes: list[int] = []

    def run(inputs: Sequence[Any], extractor: Any) -> Any:
        sizes.append(len(inputs))
        if len(sizes) == 1:
            raise error
        return infer(inputs, extractor)

    monkeypatch.setattr(module, "infer", run)
    return sizes


@pytest.mark.parametrize("error", [ModelError("failed"), MemoryError(), RuntimeError("unforeseen")])
def test_fault_of_a_model_fails_the_jobs_of_its_batch_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sizes = fails_once(monkeypatch, error)
    for n, name in enumerate(("a", "b", "c")):
        # A batch has both pictures of a, and two of the three of b.
        bench.submit(name, *(good(10 * n + i) for i in range(2 + (name == "b"))), models=1)
    bench.batcher.start()
    bench.all_done("a", "b", "c")
    assert bench.failed == {"a": error, "b": error}
    assert [bool(item.vectors) for item in bench.done["c"].items] == [True, True]
    # What is left of b is not even decoded.
    assert sizes == [BATCH, 2]
    assert len(bench.loader.loads) == 6
    assert bench.batcher.room(0)


def test_unforeseen_error_over_a_picture_is_its_result_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:

    def resize(pixels: Any, spec: ModelSpec) -> Any:
        if pixels.shape[1] == 7:
            raise RuntimeError("a bug in a library")
        return preprocess(pixels, spec)

    monkeypatch.setattr(pipeline, "preprocess", resize)
    odd = ImageItem(data=jpeg(3, (7, 9)), name="odd.jpg")
    bench.batcher.start()
    bench.submit("job", good(1), odd, good(2))
    bench.all_done("job")
    first, second, third = bench.done["job"].items
    assert second.error is not None
    assert "odd.jpg cannot be used (a bug in a library)" in second.error.message
    assert len(first.vectors) == len(third.vectors) == 2


def test_worker_outlives_a_result_that_cannot_be_delivered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise RuntimeError("not delivered")

    fails_once(monkeypatch, ModelError("failed"))
    bench.fails = fails
    bench.batcher.start()
    for name in ("given back", "delivered"):
        bench.submit(name, good(1))
        bench.all_done(name)
    bench.fails = lambda: None
    bench.submit("another", good(2))
    bench.all_done("another")
    assert set(bench.done) == {"delivered", "another"}


def test_model_that_cannot_be_loaded_gives_the_job_back(bench: Bench, two_models: Path) -> None:
    file = two_models / "tint.onnx"
    data = file.read_bytes()
    file.write_bytes(b"damaged")
    try:
        bench.submit("job", good(1))
    finally:
        file.write_bytes(data)
    assert isinstance(bench.failed["job"], ModelError)
    bench.batcher.start()
    bench.submit("again", good(1))
    bench.all_done("again")
    assert len(bench.done["again"].items[0].vectors) == 2


def test_job_without_pictures_is_done_at_once(bench: Bench) -> None:
    bench.submit("empty")
    assert bench.done["empty"].items == []


def test_look_ahead_is_bounded_by_pictures_not_yet_decoded(bench: Bench) -> None:
    assert bench.batcher.room(0)
    bench.submit("a", *(good(i) for i in range(5)))
    assert bench.batcher.room(0)
    bench.submit("b", *(good(i) for i in range(5)))
    assert not bench.batcher.room(0)
    bench.batcher.start()
    assert bench.batcher.room(20)
    bench.all_done("a", "b")


def test_stop_finishes_what_is_begun_and_returns_the_rest(bench: Bench) -> None:
    bench.batcher.start()
    bench.submit("begun", held(), good(2), good(3))
    bench.loader.reached.acquire()
    untouched = [bench.submit(name, good(4)) for name in ("b", "c")]
    returned: list[Lease] = []
    stopping = threading.Thread(target=lambda: returned.extend(bench.batcher.stop()))
    stopping.start()
    bench.loader.go_on.set()
    stopping.join()
    assert returned == untouched
    assert [len(item.vectors) for item in bench.done["begun"].items] == [2, 2, 2]
    assert set(bench.done) == {"begun"}


def test_job_over_which_a_decoder_hangs_is_taken_away_and_its_worker_replaced(
    bench: Bench,
) -> None:
    bench.batcher.start()
    lease = bench.submit("hangs", good(1), held(), good(2))
    bench.loader.reached.acquire()
    assert bench.batcher.overdue(60) == []
    assert bench.batcher.overdue(0) == [lease]
    assert bench.batcher.overdue(0) == []
    assert bench.batcher.abandoned == 1
    bench.submit("next", good(3), good(4))
    bench.all_done("next")
    # The decoder comes back after all: nobody hears of it.
    before = threading.active_count()
    bench.loader.go_on.set()
    until(lambda: threading.active_count() < before)
    bench.submit("last", good(5))
    bench.all_done("last")
    assert set(bench.done) == {"next", "last"}
    assert bench.failed == {}
    # Its first picture was decoded and waited for its batch: it was left out of it.
    assert all(len(item.vectors) == 2 for item in bench.done["next"].items)


def test_job_over_which_two_workers_hang_is_taken_away_once(pair: Bench) -> None:
    pair.batcher.start()
    lease = pair.submit("hangs", held("held 1"), held("held 2"), good(1))
    for _ in range(2):
        pair.loader.reached.acquire()
    assert pair.batcher.overdue(0) == [lease]
    assert pair.batcher.abandoned == 2
    pair.submit("next", good(2))
    pair.all_done("next")


def test_stop_does_not_wait_for_a_decoder_that_hangs(bench: Bench) -> None:
    bench.batcher.start()
    lease = bench.submit("hangs", held())
    bench.loader.reached.acquire()
    stopping = threading.Thread(target=bench.batcher.stop, daemon=True)
    stopping.start()
    until(lambda: bench.batcher.overdue(0) == [lease])
    until(lambda: not stopping.is_alive())
    assert not bench.loader.go_on.is_set()


def test_wait_for_memory_is_not_taken_for_a_decoder_that_hangs(bench: Bench) -> None:
    item = good(1)
    watch = Watch(since=0.0)
    assert bench.loader.late(watch, 60)
    with bench.gate.room(BUDGET, "another picture"):
        loading = threading.Thread(target=bench.loader.load, args=(item, bench.specs, watch))
        loading.start()
        until(lambda: watch.waiting)
        # Others came a moment ago.
        assert not bench.loader.late(watch, 60)
        bench.gate.moved_at = 0.0
        # None has come or gone for long: the one inside hangs, and all that wait with it.
        assert bench.loader.late(watch, 60)
    loading.join()
    assert not watch.waiting
    assert not bench.loader.late(watch, 60)


def test_gate_is_asked_for_what_the_decoding_costs(bench: Bench) -> None:
    item = ImageItem(data=jpeg(1, (400, 300)), name="x.jpg")
    picture = Picture(item.data or b"", DecodeLimits())
    cost = decode_cost(picture.info, 32)
    result, inputs = Loader(DecodeLimits(), MemoryGate(cost)).load(item, bench.specs)
    assert inputs is not None
    result, inputs = Loader(DecodeLimits(), MemoryGate(cost - 1)).load(item, bench.specs)
    assert inputs is None
    assert result.error is not None
    assert "FUTU_DECODE_BYTES" in result.error.message


@pytest.fixture
def queries(two_models: Path) -> Iterator[Bench]:
    """As for queries: two workers, and parts of batches wait for those that are being decoded."""
    made = Bench(two_models, workers=2, lane="query", coalesce_s=0.05)
    yield made
    made.stop()


def noted_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []

    def run(inputs: Sequence[Any], extractor: Any) -> Any:
        sizes.append(len(inputs))
        return infer(inputs, extractor)

    monkeypatch.setattr(module, "infer", run)
    return sizes


def test_query_waits_a_moment_for_one_that_is_being_decoded_and_they_are_run_together(
    queries: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = noted_sizes(monkeypatch)
    queries.batcher._coalesce_s = 20
    queries.batcher.start()
    queries.submit("slow", held(), models=1)
    queries.loader.reached.acquire()
    queries.submit("quick", good(2), models=1)
    until(lambda: queries.batcher._waiting[queries.specs[0].model_id].pictures)
    assert queries.done == {}
    queries.loader.go_on.set()
    queries.all_done("slow", "quick")
    assert sizes == [2]


def test_slow_picture_is_left_out_of_the_batch_and_done_when_it_is_there(queries: Bench) -> None:
    queries.batcher.start()
    queries.submit("slow", held(), models=1)
    queries.loader.reached.acquire()
    queries.submit("quick", good(2), models=1)
    until(lambda: "quick" in queries.done)
    assert "slow" not in queries.done
    queries.loader.go_on.set()
    queries.all_done("slow")
    assert queries.done["slow"].items[0].vectors


def test_lone_query_does_not_wait(queries: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = noted_sizes(monkeypatch)
    queries.batcher._coalesce_s = 10**6
    queries.batcher.start()
    queries.submit("alone", good(1), models=1)
    queries.all_done("alone")
    assert sizes == [1]
