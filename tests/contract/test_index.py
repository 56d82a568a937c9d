"""Every index, against an exact NumPy oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from futu.errors import IndexDamagedError
from futu.index.base import Floats, Ids, Index
from futu.index.faiss_file import data_path, manifest_path
from futu.index.faiss_index import FaissIndex
from futu.index.live import LiveIndex

DIMENSION = 32
MAKERS: dict[str, Callable[[], Index]] = {"faiss-flat": lambda: FaissIndex(DIMENSION)}


@pytest.fixture(params=sorted(MAKERS))
def index(request: pytest.FixtureRequest) -> Index:
    return MAKERS[request.param]()


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


def test_empty_index_finds_nothing(index: Index) -> None:
    found, similarities = index.search(unit_vectors(1)[0].astype(np.float32), 10)
    assert (len(found), len(similarities)) == (0, 0)


def test_saved_index_loads_equal(tmp_path: Path) -> None:
    index = FaissIndex(DIMENSION)
    vectors, ids = unit_vectors(100), np.arange(5, 105, dtype=np.int64)
    index.add(ids, vectors)
    index.save(tmp_path / "a.faiss", "me", "model")
    loaded = FaissIndex.load(tmp_path / "a.faiss", "me", "model", DIMENSION)[0]
    query = unit_vectors(1, 9)[0].astype(np.float32)
    assert loaded.search(query, 10)[0].tolist() == index.search(query, 10)[0].tolist()
    loaded.add(np.array([500], np.int64), unit_vectors(1, 3))
    assert loaded.ids().tolist() == [*range(5, 105), 500]


def damage_cut(path: Path) -> None:
    data = data_path(path)
    data.write_bytes(data.read_bytes()[:-10])


def damage_bit(path: Path) -> None:
    file = data_path(path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def damage_gone(path: Path) -> None:
    data_path(path).unlink()


def damage_manifest(path: Path) -> None:
    manifest_path(path).write_text("{")


def damage_older(path: Path) -> None:
    newer = data_path(path).read_bytes()
    FaissIndex(DIMENSION).save(path, "me", "model")
    data_path(path).write_bytes(newer)


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_bit, damage_gone, damage_manifest, damage_older]
)
def test_damaged_file_is_refused_and_the_index_made_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.faiss"
    index = FaissIndex(DIMENSION)
    vectors, ids = unit_vectors(20), np.arange(20, dtype=np.int64)
    index.add(ids, vectors)
    index.save(path, "me", "model")
    damage(path)
    with pytest.raises(IndexDamagedError, match=r"a\.faiss"):
        FaissIndex.load(path, "me", "model", DIMENSION)

    def fetch(wanted: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
        yield ids[list(wanted)], vectors[list(wanted)]

    live = LiveIndex(path, "me", "model", DIMENSION)
    live.load()
    live.level(ids, fetch)
    live.save()
    assert FaissIndex.load(path, "me", "model", DIMENSION)[0].ids().tolist() == ids.tolist()


@pytest.mark.parametrize(("identity", "model"), [("other", "model"), ("me", "other")])
def test_index_of_another_catalogue_or_model_is_refused(
    tmp_path: Path, identity: str, model: str
) -> None:
    FaissIndex(DIMENSION).save(tmp_path / "a.faiss", "me", "model")
    with pytest.raises(IndexDamagedError, match="another catalogue or model"):
        FaissIndex.load(tmp_path / "a.faiss", identity, model, DIMENSION)
