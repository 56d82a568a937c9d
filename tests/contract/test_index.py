"""Every index, against an exact NumPy oracle."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from futu.index.base import Floats, Ids, Index
from futu.index.faiss_index import FaissIndex
from futu.index.milvus_index import MilvusIndex
from futu.index.milvus_server import MilvusServer, collection_name
from futu.index.policy import HNSW_FLOAT16, HNSW_SQ8, Plan

DIMENSION = 32
ids_strategy = st.lists(st.integers(0, 298), min_size=1, max_size=40)


class Remembering(FaissIndex):
    """Is its own source of vectors, in place of a catalogue."""

    def __init__(self, kind: str) -> None:
        training = unit_vectors(200, 3).astype(np.float32)
        super().__init__(DIMENSION, Plan(kind, "for a test"), training)
        self.vectors: dict[int, Floats] = {}
        self.source = self.fetch

    def add(self, ids: Ids, vectors: Floats) -> None:
        self.vectors.update(zip(ids.tolist(), vectors))
        super().add(ids, vectors)

    def fetch(self, ids: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
        known = [i for i in ids if i in self.vectors]
        yield np.array(known, np.int64), np.array([self.vectors[i] for i in known], np.float16)


MAKERS: dict[str, Callable[[], Index]] = {
    "faiss-flat": lambda: FaissIndex(DIMENSION),
    "faiss-hnsw-float16": lambda: Remembering(HNSW_FLOAT16),
    "faiss-hnsw-sq8": lambda: Remembering(HNSW_SQ8),
}


@pytest.fixture(params=[*sorted(MAKERS), "milvus-lite"])
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    if request.param in MAKERS:
        yield MAKERS[request.param]()
        return
    server: MilvusServer = request.getfixturevalue("milvus")
    name = collection_name(uuid.uuid4().hex, "a-model@1.0")
    made = MilvusIndex(server, name, DIMENSION)
    yield made
    made.drop()


def unit_vectors(count: int, seed: int = 1) -> npt.NDArray[np.float16]:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


def oracle(vectors: Floats, ids: Ids, query: Floats, k: int) -> list[int]:
    similarities = vectors.astype(np.float64) @ query.astype(np.float64)
    return [int(i) for i in ids[np.argsort(-similarities, kind="stable")[:k]]]


def test_neighbours_are_those_of_the_oracle(index: Index) -> None:
    vectors, ids = unit_vectors(500), np.arange(1000, 1500, dtype=np.int64)
    index.add(ids, vectors)
    for query in unit_vectors(20, 2).astype(np.float32):
        found, similarities = index.search(query, 10)
        assert found.tolist() == oracle(vectors, ids, query, 10)
        assert list(similarities) == sorted(similarities, reverse=True)


def test_only_allowed_ids_are_found(index: Index) -> None:
    vectors, ids = unit_vectors(200), np.arange(200, dtype=np.int64)
    index.add(ids, vectors)
    allowed = ids[::7].copy()
    query = vectors[3].astype(np.float32)
    found, _ = index.search(query, 5, allowed)
    assert found.tolist() == oracle(vectors[::7], allowed, query, 5)
    assert index.search(query, 5, np.empty(0, np.int64))[0].tolist() == []
    assert len(index.search(query, 200, allowed)[0]) == len(allowed)


def test_adding_again_changes_nothing(index: Index) -> None:
    vectors, ids = unit_vectors(10), np.arange(10, dtype=np.int64)
    index.add(ids, vectors)
    index.add(ids, vectors)
    index.add(np.array([3, 3, 11], np.int64), unit_vectors(3, 5))
    assert index.ids().tolist() == [*range(10), 11]
    assert sorted(index.search(vectors[3].astype(np.float32), 99)[0].tolist()) == [*range(10), 11]


def test_removed_ids_are_not_found(index: Index) -> None:
    vectors, ids = unit_vectors(50), np.arange(50, dtype=np.int64)
    index.add(ids, vectors)
    index.remove(np.array([7, 8, 999], np.int64))
    found, _ = index.search(vectors[7].astype(np.float32), 50)
    assert sorted(found.tolist()) == [i for i in range(50) if i not in (7, 8)]


def test_removed_ids_come_back_when_added_again(index: Index) -> None:
    vectors, ids = unit_vectors(50), np.arange(50, dtype=np.int64)
    index.add(ids, vectors)
    index.remove(ids[10:20])
    assert (len(index), index.ids().tolist()) == (40, [*range(10), *range(20, 50)])
    index.add(ids, vectors)
    assert (len(index), index.ids().tolist()) == (50, list(range(50)))
    query = vectors[15].astype(np.float32)
    assert index.search(query, 10)[0].tolist() == oracle(vectors, ids, query, 10)


def test_difference_names_what_is_too_much_and_what_is_lacking(index: Index) -> None:
    index.add(np.arange(10, dtype=np.int64), unit_vectors(10))
    extra, lacking = index.difference(np.array([0, 1, 2, 3, 4, 70, 80], np.int64))
    assert (extra.tolist(), lacking.tolist()) == ([5, 6, 7, 8, 9], [70, 80])


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "search"]), ids_strategy), max_size=12))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_any_sequence_of_changes_gives_what_the_oracle_has(
    kind: str, steps: list[tuple[str, list[int]]]
) -> None:
    index, vectors, there = MAKERS[kind](), unit_vectors(300, 4), set[int]()
    for what, numbers in steps:
        ids = np.array(numbers, np.int64)
        if what == "add":
            index.add(ids, vectors[ids])
            there |= set(numbers)
        elif what == "remove":
            index.remove(ids)
            there -= set(numbers)
        else:
            allowed = np.unique(ids)
            among = np.array(sorted(there & set(numbers)), np.int64)
            query = vectors[299].astype(np.float32)
            found, _ = index.search(query, 7, allowed)
            assert found.tolist() == oracle(vectors[among], among, query, 7)
    assert index.ids().tolist() == sorted(there)


def test_empty_index_finds_nothing(index: Index) -> None:
    found, similarities = index.search(unit_vectors(1)[0].astype(np.float32), 10)
    assert (len(found), len(similarities)) == (0, 0)


def test_copies_of_many_are_found_at_once(index: Index) -> None:
    vectors = unit_vectors(60)
    twins = np.concatenate([vectors, vectors[:20]])
    ids = np.arange(1, 81)
    index.add(ids, twins)
    found, similarities = index.search_many(twins[60:].astype(np.float32), 2)
    assert [set(row) for row in found.tolist()] == [{i, i + 60} for i in range(1, 21)]
    assert np.allclose(similarities, 1, atol=0.1)  # one byte a dimension is rough


def test_many_are_searched_among_allowed_ids(index: Index) -> None:
    vectors = unit_vectors(60)
    ids = np.arange(1, 61)
    index.add(ids, vectors)
    allowed = ids[::2]
    found, similarities = index.search_many(vectors[:5].astype(np.float32), 40, allowed)
    assert found.shape == similarities.shape == (5, 40)
    for row, cosines in zip(found, similarities):
        assert set(row.tolist()) <= {*allowed.tolist(), -1}
        assert np.count_nonzero(row >= 0) == 30
        assert (cosines[30:] == -1).all()


def test_many_are_searched_in_an_empty_index(index: Index) -> None:
    found, similarities = index.search_many(unit_vectors(3).astype(np.float32), 2)
    assert (found == -1).all()
    assert (similarities == -1).all()
