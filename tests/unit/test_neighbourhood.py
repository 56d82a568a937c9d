"""Which contents are near enough to be copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from futu.controller.duplicates import neighbourhood
from futu.controller.duplicates.groups import components
from futu.controller.duplicates.neighbourhood import Neighbourhood, Rule
from futu.index.base import Floats, Ids
from futu.index.faiss_index import FaissIndex

DIMENSION = 256


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def moved(vector: Floats, cosine: float, seed: int) -> Floats:
    """A vector at this cosine to another."""
    other = np.random.default_rng(seed).normal(size=DIMENSION)
    away = unit(other - (other @ vector) * vector)
    return np.asarray(cosine * vector + np.sqrt(1 - cosine**2) * away, np.float32)


class Library:
    """Vectors in an index; ids count from 1."""

    def __init__(self, vectors: Floats) -> None:
        self.vectors = np.asarray(vectors, np.float16)
        self.ids = np.arange(1, len(vectors) + 1)
        self.index = FaissIndex(DIMENSION)
        self.index.add(self.ids, self.vectors)
        self.done: list[int] = []

    def fetch(self, ids: Sequence[int]) -> Iterator[tuple[Ids, Floats]]:
        wanted = np.array(ids, np.int64)
        yield wanted, self.vectors[wanted - 1]

    def look(self, rule: Rule, ids: Ids | None = None) -> Neighbourhood:
        asked = self.ids if ids is None else ids
        return Neighbourhood(
            asked, self.index, self.fetch, rule, whole=ids is None, step=self.done.append
        )


def alike(count: int, seed: int = 1) -> Floats:
    """Pictures of which the first few look much alike and the others not at all."""
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    rows[:20] = rows[0] * 1.6 + rows[:20]
    return unit(rows)


def pairs_of(around: Neighbourhood) -> set[tuple[int, int]]:
    found = around.pairs()
    return set(zip(found.left.tolist(), found.right.tolist()))


def test_pairs_from_the_threshold_on_are_found() -> None:
    base = unit(np.random.default_rng(2).normal(size=(300, DIMENSION)))
    copies = np.stack([moved(base[n], cosine, n) for n, cosine in enumerate((0.98, 0.85, 0.7))])
    library = Library(np.concatenate([base, copies]))
    assert pairs_of(library.look(Rule(0.8))) == {(1, 301), (2, 302)}
    assert library.done[-1] == 303


def test_pair_that_stands_out_counts_and_one_that_looks_like_many_does_not() -> None:
    base = alike(400)
    copy = moved(base[300], 0.6, 5)
    library = Library(np.concatenate([base, copy[None]]))
    close = float((base[1] @ base[2:20].T).max())
    assert close > 0.6  # as near as the copy, and no copy
    around = library.look(Rule(0.97, least=0.5, margin=0.2))
    assert pairs_of(around) == {(301, 401)}
    assert around.accepts(301, np.array([401]), np.array([0.6], np.float32)).tolist() == [True]
    assert around.accepts(2, np.array([3]), np.array([0.6], np.float32)).tolist() == [False]
    assert pairs_of(library.look(Rule(0.97))) == set()


def test_copies_of_one_picture_do_not_hide_a_further_one() -> None:
    base = unit(np.random.default_rng(3).normal(size=(400, DIMENSION)))
    sure = np.stack([moved(base[0], 0.97, seed) for seed in range(6)])
    further = moved(base[0], 0.62, 9)
    library = Library(np.concatenate([base, sure, further[None]]))
    found = components(library.look(Rule(0.8, least=0.5, margin=0.16)).pairs())
    assert [part.tolist() for part in found] == [[1, *range(401, 408)]]


def test_few_pictures_do_not_tell_what_stands_out() -> None:
    base = unit(np.random.default_rng(4).normal(size=(100, DIMENSION)))
    library = Library(np.concatenate([base, moved(base[0], 0.62, 9)[None]]))
    assert pairs_of(library.look(Rule(0.8, least=0.5, margin=0.16))) == set()


def test_more_copies_than_a_list_holds_are_one_component(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhood, "_K", 4)
    base = unit(np.random.default_rng(5).normal(size=(50, DIMENSION)))
    copies = np.stack([moved(base[0], 0.99, seed) for seed in range(60)])
    library = Library(np.concatenate([base, copies]))
    found = components(library.look(Rule(0.9)).pairs())
    assert [part.tolist() for part in found] == [[1, *range(51, 111)]]


def test_only_what_was_asked_for_is_compared() -> None:
    base = unit(np.random.default_rng(6).normal(size=(40, DIMENSION)))
    library = Library(np.concatenate([base, base[:6]]))
    asked = np.array([1, 2, 3, 41, 42, 46])
    assert pairs_of(library.look(Rule(0.9), asked)) == {(1, 41), (2, 42)}


def test_what_came_into_the_index_meanwhile_is_left_out() -> None:
    base = unit(np.random.default_rng(7).normal(size=(40, DIMENSION)))
    library = Library(np.concatenate([base, base[:2]]))
    known = library.ids[:41]
    around = Neighbourhood(
        known, library.index, library.fetch, Rule(0.9), whole=True, step=lambda _: None
    )
    assert pairs_of(around) == {(1, 41)}


@pytest.mark.parametrize("count", [2, 3])
def test_tiny_libraries_are_compared(count: int) -> None:
    base = unit(np.random.default_rng(8).normal(size=(1, DIMENSION)))
    library = Library(np.repeat(base, count, axis=0))
    assert len(components(library.look(Rule(0.9)).pairs())) == 1
