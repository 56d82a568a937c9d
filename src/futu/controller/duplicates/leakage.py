"""Leakage: which pictures of one dataset are in another too.

Such as those of a test set among the pictures that a model is trained with. From what is indexed
already; no model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from futu.catalogue.duplicate_schema import EXACT, NEAR
from futu.catalogue.records import DatasetRecord, ImageRecord
from futu.catalogue.session import chunks
from futu.catalogue.store import Catalogue
from futu.controller.duplicates.known import MOST_MATCHES, Match
from futu.index.live import LiveIndex
from futu.models.similarity import Scale

_AT_ONCE = 256
_ROUGH = 0.02
"""An index of one byte a dimension may be off by so much; the vectors decide."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Leak:
    """An image that is in the other dataset too, with the images there, most similar first."""

    image: ImageRecord
    matches: list[Match]


@dataclass(frozen=True)
class Looked:
    """How far it is.

    Attributes:
        done, total: contents.
        leaks: those found since the last time.
    """

    done: int
    total: int
    leaks: list[Leak]


def leakage(
    catalogue: Catalogue,
    live: LiveIndex | None,
    scale: Scale,
    tested: DatasetRecord,
    among: Sequence[DatasetRecord],
    least: float,
) -> Iterator[Looked]:
    """Look for the pictures of a dataset among those of others, piece by piece.

    Memory is bounded by a piece, and the ids of both sides.

    Args:
        catalogue: images and vectors.
        live: index of the model for ``copy``; None: only equal files are found.
        scale: of its cosines.
        tested: whose pictures are looked for.
        among: where.
        least: similarity from which two pictures are the same one, 0-100.
    """
    others = sorted(dataset.id for dataset in among)
    exact = catalogue.contents_also_in(tested.id, others)
    ids = allowed = np.empty(0, np.int64)
    if live is not None:
        ids = catalogue.searchable_vector_ids(live.model_id, [tested.id])
        allowed = catalogue.searchable_vector_ids(live.model_id, others)
    near = len(ids) if len(allowed) else 0
    total = len(exact) + near
    done = 0
    known = set(exact)
    for piece in chunks(exact, _AT_ONCE):
        done += len(piece)
        mine = catalogue.images_of_contents(piece, [tested.id])
        theirs = catalogue.images_of_contents(piece, others)
        leaks = [
            Leak(image, [Match(o, EXACT, 1.0, 100.0) for o in theirs.get(key, ())[:MOST_MATCHES]])
            for key, images in mine.items()
            for image in images
        ]
        yield Looked(done, total, leaks)
    if live is None or not near:
        return
    floor = scale.cosine(least)
    for start in range(0, len(ids), _AT_ONCE):
        piece_ids = ids[start : start + _AT_ONCE]
        vectors = _vectors(catalogue, piece_ids.tolist())
        rows = [key for key in piece_ids.tolist() if key in vectors]
        done += len(piece_ids)
        if not rows:
            yield Looked(done, total, [])
            continue
        queries = np.stack([vectors[key] for key in rows])
        found, rough = live.index.search_many(queries, MOST_MATCHES, allowed)
        pairs = _pairs(catalogue, vectors, rows, found, rough >= floor - _ROUGH, floor)
        images = catalogue.images_of_vectors(list(pairs), [tested.id])
        wanted = sorted({other for matches in pairs.values() for other in matches})
        theirs_by_id = catalogue.images_of_vectors(wanted, others)
        leaks = []
        for key, matches in pairs.items():
            best = sorted(matches.items(), key=lambda pair: (-pair[1], pair[0]))
            same = [
                Match(image, NEAR, cosine, scale.similarity(cosine))
                for other, cosine in best
                for image in theirs_by_id.get(other, ())
            ]
            leaks += [
                Leak(image, same[:MOST_MATCHES])
                for image in images.get(key, ())
                if same and image.content_hash not in known
            ]
        yield Looked(done, total, leaks)


def _pairs(
    catalogue: Catalogue,
    vectors: dict[int, Vectors],
    rows: Sequence[int],
    found: npt.NDArray[np.int64],
    near: npt.NDArray[np.bool_],
    floor: float,
) -> dict[int, dict[int, float]]:
    """Vector id -> the others that have at least a cosine to it, with that."""
    lacking = sorted({int(key) for key in found[near] if key >= 0} - set(vectors))
    known = vectors | _vectors(catalogue, lacking)
    pairs: dict[int, dict[int, float]] = {}
    for row, key in enumerate(rows):
        for other in found[row][near[row]].tolist():
            if other in known:
                cosine = float(known[key] @ known[other])
                if cosine >= floor:
                    pairs.setdefault(key, {})[other] = cosine
    return pairs


def _vectors(catalogue: Catalogue, ids: Sequence[int]) -> dict[int, Vectors]:
    """Vectors by id, of unit length."""
    found: dict[int, Vectors] = {}
    for keys, stored in catalogue.vectors(ids):
        rows = stored.astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        found.update(zip(keys.tolist(), rows))
    return found
