"""Vectors as models of pictures make them, by a seeded generator; and exact answers.

Uniform noise would say nothing: its neighbours are hardly nearer than anything else. What is
imitated here is what vectors of 1,352 photos by efficientnet-lite0 showed: a great part that all
have in common (mean cosine 0.69; here 0.58), few directions in which most of the rest lies
(participation ratio of the spectrum 25; here 24), neighbours that differ in some 25 dimensions
(here 25 - 26), and clusters that overlap, the biggest a hundred times the smallest. Three in a
hundred are nearly copies of another one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DIMENSION = 512
_CHUNK = 20_000
_PER_CLUSTER = 100
_COPIES = 0.03

Vectors = npt.NDArray[np.float16]


def clustered(count: int, dimension: int = DIMENSION, seed: int = 1) -> Vectors:
    """Unit vectors, (count, dimension) float16."""
    rng = np.random.default_rng(seed)
    clusters = max(20, count // _PER_CLUSTER)
    spectrum = (3.0 + np.arange(dimension)) ** -0.7
    spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
    centres = rng.standard_normal((clusters, dimension), np.float32) * spectrum
    shares = 1 / (10.0 + np.arange(clusters)) ** 0.7
    shares /= shares.sum()
    spread = rng.lognormal(0, 0.3, size=clusters).astype(np.float32)
    common = rng.standard_normal(dimension, np.float32)
    common *= np.float32(1.7) / np.linalg.norm(common)
    result = np.empty((count, dimension), np.float16)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        cluster = rng.choice(clusters, size=size, p=shares)
        noise = rng.standard_normal((size, dimension), np.float32)
        rows = common + centres[cluster] + noise * spectrum * spread[cluster, None]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if start:
            copies = np.flatnonzero(rng.random(size) < _COPIES)
            of = rng.integers(0, start, size=len(copies))
            change = rng.standard_normal((len(copies), dimension), np.float32)
            rows[copies] = result[of] + change * np.float32(0.1 / np.sqrt(dimension))
            rows[copies] /= np.linalg.norm(rows[copies], axis=1, keepdims=True)
        result[start : start + size] = rows
    return result


def exact_neighbours(
    vectors: Vectors, rows: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.int64]:
    """The k nearest of each of these rows, without itself: (len(rows), k), best first."""
    queries = np.asarray(vectors[rows], np.float32)
    best = np.empty((len(rows), 0), np.int64)
    similar = np.empty((len(rows), 0), np.float32)
    for start in range(0, len(vectors), _CHUNK):
        piece = np.asarray(vectors[start : start + _CHUNK], np.float32)
        found = np.arange(start, start + len(piece))
        similarities = queries @ piece.T
        similarities[found[None, :] == rows[:, None]] = -2
        similar = np.concatenate([similar, similarities], axis=1)
        best = np.concatenate([best, np.broadcast_to(found, similarities.shape)], axis=1)
        order = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        similar = np.take_along_axis(similar, order, axis=1)
        best = np.take_along_axis(best, order, axis=1)
    return best
