"""What is Milvus' own: filters of any size, and what a leader of before leaves alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from futu.index import milvus_index
from futu.index.base import Floats, Ids
from futu.index.milvus_index import MilvusIndex
from futu.index.milvus_live import MilvusLiveIndex
from futu.index.milvus_server import MilvusServer, collection_name

DIMENSION = 8
COUNT = 300


def unit_vectors(count: int, seed: int) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


VECTORS, IDS = unit_vectors(COUNT, 1), np.arange(COUNT, dtype=np.int64)


@pytest.fixture
def index(milvus: MilvusServer) -> Iterator[MilvusIndex]:
    made = MilvusIndex(milvus, collection_name(uuid.uuid4().hex, "m"), DIMENSION)
    made.add(IDS, VECTORS)
    yield made
    made.drop()


@pytest.mark.parametrize(
    ("allowed", "searches"),
    [
        (IDS[::50], 1),  # named
        (IDS[:290], 1),  # most of the nearest are allowed
        (IDS[::7], 2),  # more of the nearest are needed
        (IDS[::30], 3),  # the most that Milvus gives is not enough: named in pieces
    ],
    ids=["few", "nearly all", "some", "scattered"],
)
def test_neighbours_among_allowed_ids_are_those_of_the_oracle_however_many_are_allowed(
    index: MilvusIndex, monkeypatch: pytest.MonkeyPatch, allowed: Ids, searches: int
) -> None:
    monkeypatch.setattr(milvus_index, "_MOST_NAMED", 8)
    monkeypatch.setattr(milvus_index, "_MOST_NEIGHBOURS", 80)
    monkeypatch.setattr(milvus_index, "_GROWTH", 4)
    made: list[int] = []
    search = index._search

    def counted(query: Floats, limit: int, named: Ids | None = None) -> milvus_index.Found:
        made.append(limit)
        return search(query, limit, named)

    monkeypatch.setattr(index, "_search", counted)
    for query in unit_vectors(10, 2):
        made.clear()
        found, similarities = index.search(query, 6, allowed)
        best = np.argsort(-(VECTORS[allowed] @ query), kind="stable")[:6]
        assert found.tolist() == allowed[best].tolist()
        assert similarities == pytest.approx(VECTORS[allowed[best]] @ query, abs=1e-5)
        assert len(made) >= searches


def test_collection_that_was_dropped_is_made_again_after_one_failure(
    index: MilvusIndex, milvus: MilvusServer
) -> None:
    with milvus.connected() as client:
        client.drop_collection(index.collection)
    live = MilvusLiveIndex(milvus, "identity", "m", DIMENSION)
    live.index = index
    states = []
    for _ in range(2):
        live.level(IDS, fetch)
        states.append(live.behind)
        milvus._rest_until = 0
    assert states == [True, False]
    assert index.ids().tolist() == IDS.tolist()


def fetch(wanted: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
    yield IDS[list(wanted)], VECTORS[list(wanted)]


def test_levelling_takes_away_nothing_that_was_added_after_the_catalogue_was_asked(
    index: MilvusIndex, milvus: MilvusServer
) -> None:
    live = MilvusLiveIndex(milvus, "identity", "m", DIMENSION)
    live.index = index
    wanted = np.array([0, 3, 250], np.int64)
    live.level(wanted, fetch)
    assert index.ids().tolist() == [0, 3, 250, *range(251, COUNT)]


def test_vectors_gone_from_the_server_are_noticed(index: MilvusIndex, milvus: MilvusServer) -> None:
    live = MilvusLiveIndex(milvus, "identity", "m", DIMENSION)
    live.index = index
    live.level(IDS, fetch)
    assert live.look()
    index.remove(IDS)
    assert not live.look()
