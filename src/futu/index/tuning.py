"""How good an index is, and how it is to be searched to be as good as wanted.

Queries are a sample of the stored vectors; each one's own entry is left out of what is compared,
since every index finds that. The exact answer is that of a scan of all vectors whose candidates,
many more than asked for, are compared again by their float16 vectors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from futu.index.base import Floats, Ids
from futu.index.faiss_index import FaissIndex, Tuning
from futu.index.policy import FLAT, HNSW_SQ8

QUERIES = 100
_K = 10
_K_LARGE = 100
_DEPTHS = (1.5, 2.0, 3.0, 4.0)
_WIDEST = 4096
_LEAST_WIDTH = 24
"""However good stored vectors are found: pictures that are not stored are harder to find."""


@dataclass(frozen=True)
class Measured:
    """What a sample of queries showed.

    Attributes:
        recall: recall@10.
        p50_ms: of a search with k = 10 by one thread.
        exact_p50_ms: the same, exactly.
        queries: how many were made; 0: nothing was measured.
        vectors: that were in the index then.
    """

    recall: float
    p50_ms: float
    exact_p50_ms: float
    queries: int
    vectors: int


def sample(index: FaissIndex, count: int, seed: int = 0) -> tuple[Ids, Floats]:
    """Random vectors of the collection: ids (n,) and float32 (n, dimension)."""
    ids = index.ids()
    chosen = np.random.default_rng(seed).permutation(len(ids))[:count]
    return take(index, ids[np.sort(chosen)])


def take(index: FaissIndex, ids: Ids) -> tuple[Ids, Floats]:
    """The vectors of ids by the index's source; those it lacks are left out."""
    pieces = list(index.source(ids.tolist())) if index.source is not None and len(ids) else []
    if not pieces:
        return np.empty(0, np.int64), np.empty((0, index.dimension), np.float32)
    vectors = np.concatenate([piece[1] for piece in pieces]).astype(np.float32)
    return np.concatenate([piece[0] for piece in pieces]), vectors


def measure(index: FaissIndex, ids: Ids, queries: Floats) -> Measured:
    """Recall and latency as the index is searched now."""
    found, times, exact_times = [], [], []
    for own, query in zip(ids, queries):
        begun = time.perf_counter()
        answer = index.search(query, _K + 1)[0]
        between = time.perf_counter()
        exact = index.search_exactly(query, _K + 1)[0]
        exact_times.append(time.perf_counter() - between)
        times.append(between - begun)
        found.append(_shared(answer, exact, own, _K))
    if not found:
        return Measured(1.0, 0.0, 0.0, 0, len(index))
    recall = float(np.mean(found))
    return Measured(recall, median(times) * 1e3, median(exact_times) * 1e3, len(found), len(index))


def tune(index: FaissIndex, ids: Ids, queries: Floats, wanted: float) -> Tuning:
    """The least width that gives a recall half-way between the wanted one and 1.

    Half-way, because the next sample is another one. The index is searched by others meanwhile.

    Args:
        index: as it is.
        ids: of the sample, see ``sample``.
        queries: its vectors.
        wanted: recall@10, below 1.
    """
    tuning = replace(index.tuning, wanted=wanted, vectors=len(index))
    if index.kind == FLAT or not len(ids):
        return tuning
    aim = (1 + wanted) / 2
    exact = [index.search_exactly(query, _K_LARGE + 1)[0] for query in queries]
    depth = _depth(index, ids, queries, exact, (3 + wanted) / 4) if index.kind == HNSW_SQ8 else 1.0

    def recall(width: int, k: int) -> float:
        trial = replace(tuning, depth=depth, width=width, width_100=width)
        answers = (index.search_as(trial, query, k + 1)[0] for query in queries)
        return float(np.mean([_shared(a, e, i, k) for a, e, i in zip(answers, exact, ids)]))

    few, reached = _least(_LEAST_WIDTH, aim, lambda width: recall(width, _K))
    many, _ = _least(max(few, _K_LARGE + 1), aim, lambda width: recall(width, _K_LARGE))
    return replace(tuning, depth=depth, width=few, width_100=many, recall=reached)


def _least(first: int, aim: float, recall: Callable[[int], float]) -> tuple[int, float]:
    """The least width that reaches an aim, within an eighth; and the recall it reaches."""
    low, high = first - 1, first
    reached = recall(high)
    while reached < aim and high < _WIDEST:
        low, high = high, 2 * high
        reached = recall(high)
    while high - low > max(1, high // 8):
        middle = (low + high) // 2
        between = recall(middle)
        if between >= aim:
            high, reached = middle, between
        else:
            low = middle
    return high, reached


def _depth(index: FaissIndex, ids: Ids, queries: Floats, exact: list[Ids], aim: float) -> float:
    """How many candidates for each neighbour have to be compared again to have nearly all."""
    shares = dict.fromkeys(_DEPTHS, 0.0)
    for own, query, answer in zip(ids, queries, exact):
        rough = index.scan(query, math.ceil((_K + 1) * _DEPTHS[-1]))
        for depth in _DEPTHS:
            among = rough[: math.ceil((_K + 1) * depth)]
            wanted = answer[answer != own][:_K]
            shares[depth] += float(np.isin(wanted, among).mean()) if len(wanted) else 1.0
    good = (depth for depth, total in shares.items() if total / len(ids) >= aim)
    return next(good, _DEPTHS[-1])


def _shared(answer: Ids, exact: Ids, own: int, k: int) -> float:
    """The share of the exact neighbours that an answer has, without the query itself."""
    wanted = exact[exact != own][:k]
    return float(np.isin(wanted, answer[answer != own][:k]).mean()) if len(wanted) else 1.0
