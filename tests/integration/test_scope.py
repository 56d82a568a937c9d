"""Neighbours in a scope, against a search through all vectors, however the index is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import Connection, event

from futu.catalogue import searching
from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import DatasetRecord, ImageRecord, Outcome, ScannedFile, Scope
from futu.catalogue.schema import PENDING
from futu.catalogue.store import Catalogue
from futu.controller import neighbours
from futu.controller.fresh import FreshCache
from futu.controller.neighbours import Neighbours
from futu.index.live import LiveIndex

MODEL, DIMENSION, IMAGES = "model-1", 16, 600
HOUR_NS = 3600 * 10**9


@dataclass
class World:
    """Images of three datasets; each tenth content is in two files, and many are as similar."""

    catalogue: Catalogue
    live: LiveIndex
    datasets: list[DatasetRecord]
    images: list[ImageRecord]
    vectors: dict[bytes, npt.NDArray[np.float16]]

    def oracle(self, query: npt.NDArray[np.float32], scope: Scope) -> list[tuple[float, int]]:
        """Cosine and image id of all images in a scope, in the order they are to have."""
        ranked = []
        for image in self.images:
            assert image.vector_id is not None
            assert image.content_hash is not None
            cosine = float(self.vectors[image.content_hash].astype(np.float32) @ query)
            if scope.admits(image):
                ranked.append((-round(cosine, 5), image.vector_id, image.id))
        return [(-cosine, image_id) for cosine, _, image_id in sorted(ranked)]


def content(number: int) -> bytes:
    return b"%032d" % number


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("scope")
    catalogue = Catalogue(sqlite_url(folder / "catalogue.db"))
    random = np.random.default_rng(3)
    datasets = [catalogue.add_dataset(name, f"/{name}") for name in ("one", "two", "three")]
    outcomes: list[Outcome] = []
    for number in range(IMAGES):
        vector = np.zeros(DIMENSION, np.float32)
        # Few directions, so that there are many equal ones; the third dataset is off by itself.
        place = int(random.integers(6)) if number % 10 < 8 else 8 + int(random.integers(6))
        vector[place], vector[(place + 1) % DIMENSION] = 0.8, 0.6
        outcomes.append(Outcome(content(number), {MODEL: vector}, 100 + number, 50))
    for of, dataset in enumerate(datasets):
        chosen = [
            n for n in range(IMAGES) if (n % 10 >= 8) == (of == 2) and (n % 2 == of or of == 2)
        ]
        files = [
            ScannedFile(f"{n % 7}/{n:04}.jpg", n, n * HOUR_NS, content(n), PENDING) for n in chosen
        ]
        files += [
            ScannedFile(f"again/{n:04}.jpg", n, n * HOUR_NS, content(n), PENDING)
            for n in chosen
            if n % 10 == 0
        ]
        catalogue.write_files(dataset.id, files)
    ids = catalogue.record(outcomes, MODEL)[MODEL]
    live = LiveIndex(folder / "index", catalogue.identity, MODEL, DIMENSION)
    stored = {o.content_hash: o.vectors[MODEL].astype(np.float16) for o in outcomes}
    live.add(np.array(list(ids.values())), np.stack([stored[digest] for digest in ids]))
    found = catalogue.images_of_vectors(list(ids.values()), [d.id for d in datasets])
    images = [image for same in found.values() for image in same]
    yield World(catalogue, live, datasets, images, stored)
    catalogue.close()


SCOPES: list[dict[str, Any]] = [
    {},
    {"datasets": [0]},
    {"datasets": [2]},
    {"datasets": [0, 2]},
    {"path_prefix": "3/"},
    {"path_prefix": "again/"},
    {"path_prefix": "nowhere"},
    {"after_ns": 300 * HOUR_NS},
    {"after_ns": 100 * HOUR_NS, "before_ns": 101 * HOUR_NS},
    {"min_size": 590},
    {"max_size": 300, "datasets": [1]},
    {"min_width": 400, "max_width": 420},
    {"min_height": 51},
    {"path_prefix": "1/", "after_ns": 50 * HOUR_NS, "max_size": 500, "datasets": [0, 1]},
]


@pytest.mark.parametrize("small", [0, 20, 4096], ids=["by more", "by either", "by ids"])
@pytest.mark.parametrize("bounds", SCOPES, ids=str)
def test_pages_are_those_of_a_search_through_all_vectors(
    world: World, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, Any], small: int
) -> None:
    monkeypatch.setattr(neighbours, "_SMALL", small)
    monkeypatch.setattr(neighbours, "_MOST_FETCHED", 200)
    bounds = dict(bounds)
    chosen = bounds.pop("datasets", [0, 1, 2])
    scope = Scope(tuple(world.datasets[n].id for n in chosen), **bounds)
    query = np.zeros(DIMENSION, np.float32)
    query[:3] = 0.6, 0.64, 0.48
    wanted = world.oracle(query, scope)
    finder = Neighbours(world.catalogue)
    found: list[tuple[float, int]] = []
    more, generations = True, set()
    while more:
        page = finder.find(world.live, query, scope, k=61, offset=len(found))
        assert len(page.neighbours) == 61 or not page.more
        found += [(round(n.cosine, 5), n.image.id) for n in page.neighbours]
        more = page.more
        generations.add(page.generation)
    assert found == wanted
    assert len(generations) == 1


def test_min_similarity_ends_the_pages(world: World) -> None:
    query = np.zeros(DIMENSION, np.float32)
    query[0] = 1.0
    scope = Scope(tuple(d.id for d in world.datasets))
    alike = [image_id for cosine, image_id in world.oracle(query, scope) if cosine >= 0.7]
    assert 10 < len(alike) < IMAGES
    page = Neighbours(world.catalogue).find(world.live, query, scope, k=1000, min_similarity=70)
    assert [n.image.id for n in page.neighbours] == alike
    assert not page.more


def test_generation_tells_that_something_was_added(world: World) -> None:
    query = np.ones(DIMENSION, np.float32) / 4
    scope, finder = Scope((world.datasets[0].id,)), Neighbours(world.catalogue)
    first = finder.find(world.live, query, scope, k=3)
    assert finder.find(world.live, query, scope, k=3, offset=3).generation == first.generation
    world.live.add(np.array([10**6]), query[None])
    assert finder.find(world.live, query, scope, k=3, offset=3).generation != first.generation
    world.live.index.remove(np.array([10**6]))


def test_image_that_left_is_replaced_by_the_next_though_its_vector_is_there(
    tmp_path: Path,
) -> None:
    catalogue = Catalogue(sqlite_url(tmp_path / "c.db"))
    dataset = catalogue.add_dataset("one", "/one")
    vectors = np.eye(DIMENSION, dtype=np.float32)[:8] * 0.5 + 0.1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    files = [ScannedFile(f"{n}.jpg", 1, 1, content(n), PENDING) for n in range(8)]
    catalogue.write_files(dataset.id, files)
    outcomes = [Outcome(content(n), {MODEL: vectors[n]}, 1, 1) for n in range(8)]
    ids = catalogue.record(outcomes, MODEL)[MODEL]
    live = LiveIndex(tmp_path / "index", catalogue.identity, MODEL, DIMENSION)
    live.add(np.array(list(ids.values())), vectors)
    finder, scope = Neighbours(catalogue), Scope((dataset.id,))
    for asked in (scope, Scope((dataset.id,), path_prefix="")):
        found = finder.find(live, vectors[3], asked, k=2).neighbours
        assert [n.image.path for n in found] == ["3.jpg", "0.jpg"]
    catalogue.mark_missing([found[0].image.id, found[1].image.id])
    for asked in (scope, Scope((dataset.id,), min_size=1)):
        found = finder.find(live, vectors[3], asked, k=2).neighbours
        assert [n.image.path for n in found] == ["1.jpg", "2.jpg"]
    assert len(finder.find(live, vectors[3], scope, k=100).neighbours) == 6
    catalogue.close()


def plans(catalogue: Catalogue, ask: Callable[[], object]) -> list[str]:
    """How SQLite goes about the queries that are made."""
    steps: list[str] = []

    def explain(db: Connection, _: object, sql: str, values: Any, *__: object) -> None:
        if not sql.startswith("EXPLAIN"):
            rows = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            steps.extend(row[3] for row in rows)

    engines = (catalogue._engine, catalogue._unpooled)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", explain)
    try:
        ask()
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", explain)
    return steps


@pytest.mark.parametrize(
    ("bounds", "index"),
    [
        ({"path_prefix": "3/"}, "(dataset_id=? AND path>? AND path<?)"),
        ({"after_ns": 5, "before_ns": 6}, "(dataset_id=? AND mtime_ns>? AND mtime_ns<?)"),
        ({"after_ns": 5}, "(dataset_id=? AND mtime_ns>?)"),
        ({"min_size": 5}, "(dataset_id=? AND size>?)"),
        ({"max_size": 5, "min_width": 3}, "(dataset_id=? AND size<?)"),
        ({}, "(dataset_id=? AND state=?)"),
    ],
)
def test_scope_is_read_by_an_index(world: World, bounds: dict[str, Any], index: str) -> None:
    scope = Scope((1, 2), **bounds)
    steps = plans(world.catalogue, lambda: world.catalogue.vector_ids_in(scope, MODEL, 10))
    assert not [step for step in steps if step.startswith("SCAN")]
    assert [step for step in steps if step.startswith("SEARCH images") and index in step]


def test_what_a_search_reads_is_found_by_keys(world: World) -> None:
    catalogue, image = world.catalogue, world.images[0]
    assert image.content_hash is not None

    def search() -> None:
        assert image.content_hash is not None
        assert catalogue.image(image.id).path == image.path
        assert catalogue.image_of_content(image.content_hash) is not None
        assert catalogue.image_at(image.dataset_id, image.path) is not None
        assert catalogue.vector_of_content(image.content_hash, MODEL) is not None
        assert catalogue.images_of_vectors(range(1, 500), [1, 2, 3])

    steps = plans(catalogue, search)
    assert len(steps) > 8
    assert not [step for step in steps if step.startswith("SCAN")]


def test_prefix_of_the_last_byte_has_an_end(world: World) -> None:
    for prefix in ("\udcff", "a\udcff\udcff"):
        scope = Scope((1,), path_prefix=prefix)
        ids = world.catalogue.vector_ids_in(scope, MODEL)
        assert ids is not None
        assert len(ids) == 0
    assert searching._after_prefix(b"a\xff\xff") == b"b"
    assert searching._after_prefix(b"\xff") is None


def test_reads_of_a_thread_see_what_was_written_since(tmp_path: Path) -> None:
    catalogue = Catalogue(sqlite_url(tmp_path / "c.db"))
    dataset = catalogue.add_dataset("one", "/one")
    file = ScannedFile("a.jpg", 1, 1, content(1), PENDING)
    catalogue.write_files(dataset.id, [file])
    first = catalogue.image_at(dataset.id, "a.jpg")
    assert first is not None
    catalogue.mark_missing([first.id])
    second = catalogue.image_at(dataset.id, "a.jpg")
    assert second is not None
    assert (first.state, second.state) == ("pending", "missing")
    catalogue.close()


def test_many_threads_read_and_leave_room_for_a_writer(tmp_path: Path) -> None:
    catalogue = Catalogue(sqlite_url(tmp_path / "c.db"))
    dataset = catalogue.add_dataset("one", "/one")
    together = threading.Barrier(41)
    found: list[ImageRecord | None] = []

    def read() -> None:
        found.append(catalogue.image_at(dataset.id, "a.jpg"))
        together.wait(60)  # all hold their connections
        together.wait(60)
        found.append(catalogue.image_at(dataset.id, "a.jpg"))

    threads = [threading.Thread(target=read) for _ in range(40)]
    for thread in threads:
        thread.start()
    together.wait(60)
    catalogue.write_files(dataset.id, [ScannedFile("a.jpg", 1, 1, content(1), PENDING)])
    together.wait(60)
    for thread in threads:
        thread.join()
    assert found[:40] == [None] * 40
    assert all(found[40:])
    catalogue.close()


def test_cheap_value_is_made_anew_and_a_dear_one_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("futu.controller.fresh.time.monotonic", lambda: clock[0])
    cache: FreshCache[int] = FreshCache(2)
    made: list[int] = []

    def make(cost_s: float) -> Callable[[], int]:
        def work() -> int:
            clock[0] += cost_s
            made.append(len(made))
            return made[-1]

        return work

    assert [cache.get("a", version, make(0.01)) for version in (1, 1, 2)] == [0, 0, 1]
    assert [cache.get("b", version, make(1.0)) for version in (1, 2, 3)] == [2, 2, 2]
    clock[0] += 4.1
    assert cache.get("b", 3, make(1.0)) == 3
    assert cache.get("c", 1, make(0.01)) == 4
    clock[0] += 100

    def nested() -> int:
        # Another asks meanwhile.
        return 90 + cache.get("b", 5, make(0.01))

    assert cache.get("b", 4, nested) == 93
    assert cache.get("a", 2, make(0.01)) == 5


def test_value_is_made_once_for_all_who_wait_for_it() -> None:
    cache: FreshCache[int] = FreshCache(2)
    made: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    found: list[int] = []

    def make() -> int:
        begun.set()
        assert go_on.wait(60)
        made.append(1)
        return len(made)

    threads = [threading.Thread(target=lambda: found.append(cache.get("a", 1, make)))]
    threads[0].start()
    assert begun.wait(60)
    threads += [threading.Thread(target=lambda: found.append(cache.get("a", 1, make)))] * 1
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [1, 1]
