"""An index that grows, shrinks, gets worse or is tuned: built anew while searches go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt
import pytest

from futu.index import policy, tuning
from futu.index.base import Floats, Ids
from futu.index.faiss_index import LINKS, FaissIndex, Tuning
from futu.index.live import LiveIndex, LiveIndexes
from futu.index.policy import FLAT, HNSW_FLOAT16, HNSW_SQ8

faiss: Any = _faiss
DIMENSION = 32
VECTOR_BYTES = 2 * DIMENSION


def clustered(count: int, seed: int = 1) -> npt.NDArray[np.float16]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, DIMENSION))
    rows = centres[rng.integers(0, 40, count)] + 1.2 * rng.normal(size=(count, DIMENSION))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


VECTORS = clustered(6000)


class Source:
    """Gives vectors as a catalogue does; can hold back."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked = threading.Event()
        self.error: Exception | None = None

    def __call__(self, wanted: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
        if not self.go_on.is_set():
            self.asked.set()
            self.go_on.wait()
        if self.error is not None:
            raise self.error
        ids = np.array(wanted, np.int64)
        for start in range(0, len(ids), 1000):
            yield ids[start : start + 1000], VECTORS[ids[start : start + 1000]]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveIndex]:
    """Of 1,000 vectors on it has a graph, of 4,000 on one byte a dimension."""
    monkeypatch.setattr(policy, "EXACT_BYTES", 1000 * VECTOR_BYTES)
    monkeypatch.setattr(policy, "FLOAT16_BYTES", 4000 * VECTOR_BYTES)
    monkeypatch.setattr(tuning, "QUERIES", 40)
    made = LiveIndex(tmp_path / "a.faiss", "me", "model", DIMENSION)
    yield made
    made.close()


def upto(count: int) -> Ids:
    return np.arange(count, dtype=np.int64)


def settled(live: LiveIndex) -> FaissIndex:
    """The index when nothing is left to do."""
    assert live.keeper.wait()
    assert isinstance(live.index, FaissIndex)
    return live.index


def oracle(query: Floats, ids: Ids, k: int) -> list[int]:
    similarities = VECTORS[ids].astype(np.float64) @ query.astype(np.float64)
    return [int(i) for i in ids[np.argsort(-similarities, kind="stable")[:k]]]


def recall(live: LiveIndex, ids: Ids, allowed: Ids | None = None) -> float:
    queries = VECTORS[np.random.default_rng(2).integers(0, len(ids), 60)].astype(np.float32)
    hits = 0
    for query in queries:
        expected = oracle(query, ids if allowed is None else allowed, 10)
        hits += len(set(live.index.search(query, 10, allowed)[0].tolist()) & set(expected))
    return hits / len(queries) / min(10, len(ids if allowed is None else allowed))


def spoil(index: FaissIndex) -> None:
    """Leave each vector few of its links."""
    links = faiss.vector_to_array(index.faiss.hnsw.neighbors).copy()
    starts = faiss.vector_to_array(index.faiss.hnsw.offsets)[:-1].astype(np.int64)
    for place in range(4, 2 * LINKS):
        links[starts + place] = -1
    faiss.copy_array_to_vector(links, index.faiss.hnsw.neighbors)


def test_kind_follows_the_size_up_and_down(live: LiveIndex, source: Source) -> None:
    kinds = []
    for count in (900, 1100, 600, 400, 4500, 2500, 1900, 600, 450):
        live.level(upto(count), source)
        index = settled(live)
        assert index.ids().tolist() == list(range(count))
        kinds.append(index.kind)
        assert recall(live, upto(count)) >= 0.97
    assert kinds == [
        FLAT, HNSW_FLOAT16, HNSW_FLOAT16, FLAT,
        HNSW_SQ8, HNSW_SQ8, HNSW_FLOAT16, HNSW_FLOAT16, FLAT,
    ]  # fmt: skip


def test_tuned_recall_holds_against_the_oracle(live: LiveIndex, source: Source) -> None:
    live.level(upto(6000), source)
    index = settled(live)
    assert index.kind == HNSW_SQ8
    assert not index.exact
    assert recall(live, upto(6000)) >= 0.97
    assert live.keeper.measured is not None
    assert live.keeper.measured.recall >= 0.97
    query = VECTORS[77].astype(np.float32)
    ids, cosines = index.search(query, 3)
    assert ids[0] == 77
    np.testing.assert_allclose(cosines, VECTORS[ids].astype(np.float32) @ query, atol=1e-6)


def test_allowed_ids_are_all_found_however_few(live: LiveIndex, source: Source) -> None:
    live.level(upto(6000), source)
    settled(live)
    for step in (2, 10, 200, 3000):
        allowed = upto(6000)[::step].copy()
        assert recall(live, upto(6000), allowed) >= 0.97
        found = live.index.search(VECTORS[5].astype(np.float32), len(allowed), allowed)[0]
        assert sorted(found.tolist()) == allowed.tolist()


def test_changes_during_a_rebuild_are_kept_and_searches_go_on(
    live: LiveIndex, source: Source
) -> None:
    live.level(upto(900), source)
    source.go_on.clear()
    live.add(np.arange(900, 3000), VECTORS[900:3000])
    assert source.asked.wait(20)
    assert live.keeper.doing == "rebuilding"
    query = VECTORS[2999].astype(np.float32)
    assert live.index.kind == FLAT
    assert live.index.search(query, 5)[0].tolist() == oracle(query, upto(3000), 5)
    live.add(np.arange(3000, 3100), VECTORS[3000:3100])
    live.remove(np.arange(50))
    source.go_on.set()
    while live.index.kind == FLAT:
        live.add(np.array([3100], np.int64), VECTORS[3100:3101])
        live.index.search(query, 5)
    live.keeper.wait()
    assert live.index.ids().tolist() == list(range(50, 3101))


def test_many_threads_search_add_and_remove_during_rebuilds(
    live: LiveIndex, source: Source
) -> None:
    live.level(upto(2000), source)
    settled(live)
    ended, failures = threading.Event(), []

    def search(seed: int) -> None:
        try:
            for query in clustered(10_000, seed).astype(np.float32):
                if ended.is_set():
                    return
                ids, cosines = live.index.search(query, 10)
                assert len(set(ids.tolist())) == 10
                assert (np.diff(cosines) <= 0).all()
                assert cosines[0] == pytest.approx(
                    VECTORS[ids[0]].astype(np.float32) @ query, abs=0.01
                )
        except BaseException as error:
            failures.append(error)

    searchers = [threading.Thread(target=search, args=(seed,)) for seed in (5, 6)]
    for thread in searchers:
        thread.start()
    for start in range(2000, 5000, 250):
        live.add(np.arange(start, start + 250), VECTORS[start : start + 250])
        if start % 1000 == 0:
            live.keeper.rebuild("for a test")
        live.remove(np.arange(start - 2000, start - 1990))
    settled(live)
    ended.set()
    for thread in searchers:
        thread.join()
    assert not failures
    gone = {i for start in range(2000, 5000, 250) for i in range(start - 2000, start - 1990)}
    assert set(settled(live).ids().tolist()) == set(range(5000)) - gone


def test_index_that_finds_too_little_is_tuned_again(live: LiveIndex, source: Source) -> None:
    live.level(upto(3000), source)
    index = settled(live)
    spoil(index)
    assert recall(live, upto(3000)) < 0.9
    width = index.tuning.width
    live.keeper.measured = None
    live.keeper.look()
    assert settled(live) is index
    assert index.tuning.width > width
    assert recall(live, upto(3000)) >= 0.97


def test_index_that_cannot_be_tuned_is_searched_exactly_until_built_anew(
    live: LiveIndex,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    live.level(upto(3000), source)
    bad = settled(live)
    spoil(bad)
    exactly: list[float] = []
    tune = tuning.tune

    def useless(index: FaissIndex, *given: object) -> Tuning:
        if index is bad:
            return bad.tuning
        exactly.append(recall(live, upto(3000)) if live.index.exact else 0.0)  # type: ignore[attr-defined]
        return tune(index, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "tune", useless)
    live.keeper.measured = None
    live.keeper.look()
    index = settled(live)
    assert index is not bad
    assert exactly == [1.0]
    assert not index.exact
    assert recall(live, upto(3000)) >= 0.97
    assert "all vectors are compared until it is built anew" in caplog.text


def test_failed_rebuild_leaves_the_index_in_use(
    live: LiveIndex, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    live.level(upto(900), source)
    source.error = OSError("the catalogue is away")
    live.add(np.arange(900, 3000), VECTORS[900:3000])
    assert settled(live).kind == FLAT
    assert live.keeper.last is not None
    assert live.keeper.last.error == "the catalogue is away"
    assert "rebuilding failed" in caplog.text
    source.error = None
    live.keeper.rebuild("asked for")
    assert settled(live).kind == HNSW_FLOAT16


def test_rebuild_that_is_asked_for_holds_the_recall_asked_for(
    live: LiveIndex, source: Source
) -> None:
    live.level(upto(3000), source)
    first = settled(live)
    live.keeper.rebuild("asked for", 0.8)
    index = settled(live)
    assert index is not first
    assert index.tuning.wanted == 0.8
    assert live.keeper.last is not None
    assert live.keeper.last.before is not None
    assert live.keeper.last.reason == "asked for"
    live.save()
    again = LiveIndex(live.path, "me", "model", DIMENSION)
    again.load()
    assert again.keeper.recall(again.index) == 0.8  # type: ignore[arg-type]


def test_index_level_with_its_version_is_not_compared(tmp_path: Path, source: Source) -> None:
    models = {"similar": ("model", DIMENSION)}
    first = LiveIndexes(tmp_path, "me", models)
    first.level(lambda _: upto(300), source, lambda: 4)
    first.save()
    asked: list[str] = []

    def wanted(model_id: str) -> Ids:
        asked.append(model_id)
        return upto(300)

    def started(version: int) -> LiveIndexes:
        indexes = LiveIndexes(tmp_path, "me", models)
        indexes.load()
        indexes.level(wanted, source, lambda: version)
        return indexes

    started(4)
    assert asked == []
    second = started(5)
    assert asked == ["model"]
    second.save()
    started(5)
    assert asked == ["model"]
    third = started(5)
    third["similar"].add(np.array([301], np.int64), VECTORS[301:302])
    third.save()
    started(6)
    assert asked == ["model", "model"]


def test_big_index_is_written_when_enough_has_changed(live: LiveIndex, source: Source) -> None:
    live.level(upto(3000), source)
    settled(live)
    live.save()
    before = live.facts()["file_bytes"]
    live.add(np.arange(3000, 3100), VECTORS[3000:3100])
    live.save_soon()
    assert live._saver is None or not live._saver.is_alive()
    live.add(np.arange(3100, 3200), VECTORS[3100:3200])
    live.save_soon()
    assert live._saver is not None
    live._saver.join()
    assert live.facts()["file_bytes"] > before
