"""From a vector to the nearest images of a scope, page by page."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import Ids, ImageRecord, Scope
from futu.catalogue.store import Catalogue
from futu.controller.fresh import FreshCache
from futu.controller.presence import Presence
from futu.index.live import LiveIndex
from futu.jobs.measures import Measures
from futu.models.spec import Question

Vector = npt.NDArray[np.floating]

COPY_SIMILARITY = 75.0
"""From here on a search in mode ``auto`` calls an image a copy; 0-100, of the vectors for copy."""

_SMALL = 65536
"""Images of a scope up to which their ids are handed to the index."""

_MOST_FETCHED = 4096
"""Neighbours that are fetched and looked through for those in a larger scope."""

_SPARE = 1.5
_MOST_LOOKS = 5
_LARGE_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image and its cosine similarity to the query, by the vectors for ``match``."""

    image: ImageRecord
    cosine: float
    match: Question = "similar"

    @property
    def similarity(self) -> float:
        """0-100."""
        return round(max(0.0, min(1.0, self.cosine)) * 100, 2)


@dataclass(frozen=True, slots=True)
class Page:
    """Some neighbours, best first.

    Attributes:
        more: whether there are others after them.
        generation: of catalogue and index; pages of one generation fit together.
    """

    neighbours: list[Neighbour]
    more: bool
    generation: str

    def matching(self, question: Question) -> Page:
        """The same, found by the vectors for a question."""
        return replace(self, neighbours=[replace(n, match=question) for n in self.neighbours])


class Neighbours:
    """Finds the nearest images of a scope.

    The index knows ids, not scopes. How it is asked depends on how many images are in the scope:

    - all that answer the question: for as many as are wanted;
    - at most ``_SMALL``: among their ids, which the catalogue finds by an index of its own;
    - more: for more than are wanted, and those outside the scope are left out. When too few are
      left, as when one dataset looks quite unlike the query, among the ids again.

    Args:
        catalogue: images and their vectors.
        measures: has the times of index and catalogue.
    """

    def __init__(self, catalogue: Catalogue, measures: Measures | None = None) -> None:
        self._catalogue = catalogue
        self._measures = measures or Measures()
        self._presence = Presence(catalogue)
        self._start = secrets.token_hex(4)
        self._answering: FreshCache[set[int]] = FreshCache(8)
        self._small: FreshCache[Ids | None] = FreshCache(64)
        self._ids: FreshCache[Ids] = FreshCache(8)
        self._large: dict[tuple[Scope, str], float] = {}

    def answering(self, model_id: str) -> set[int]:
        """Ids of the datasets with a searchable image that has a vector of a model."""
        catalogue = self._catalogue
        return self._answering.get(
            model_id, catalogue.changes, lambda: catalogue.answering(model_id)
        )

    def find(
        self,
        live: LiveIndex,
        vector: Vector,
        scope: Scope,
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Page:
        """A page of the images of a scope that are most similar to a vector, best first.

        Equally similar ones are ordered by id, so that pages neither overlap nor leave out any.
        Files that were deleted are no results, and others take their places.

        Args:
            live: the index to ask.
            vector: shape (dimension,), unit length.
            scope: which images.
            k: how many at most.
            offset: how many come before.
            min_similarity: 0-100.
        """
        wanted = offset + k + 1
        for _ in range(_MOST_LOOKS):
            before = self._generation(live)
            found = self._found(live, vector, scope, wanted, min_similarity)
            after = self._generation(live)
            page = [n for n in found[offset : offset + k] if n.similarity >= min_similarity]
            gone = self._presence.gone(neighbour.image for neighbour in page)
            if not gone:
                break
            page = [neighbour for neighbour in page if neighbour.image.id not in gone]
        following = found[offset + k : wanted]
        more = bool(following) and following[0].similarity >= min_similarity
        return Page(page, more, before if before == after else f"{before}+{after}")

    def copies_first(
        self,
        asked: Mapping[Question, tuple[LiveIndex, Vector]],
        scope: Scope,
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Page:
        """A page of the copies of a picture and, after them, of what looks like it.

        Copies are the images whose vectors for ``copy`` have at least ``COPY_SIMILARITY`` to the
        query's; they are not repeated among the others.

        Args:
            asked: question -> its index and the query's vector; without one for ``copy`` there are
                only look-alikes.
            scope: which images.
            k: how many at most.
            offset: how many come before.
            min_similarity: 0-100.
        """
        wanted = offset + k + 1
        found: list[Neighbour] = []
        generations: list[str] = []
        if "copy" in asked:
            least = max(min_similarity, COPY_SIMILARITY)
            copies = self.find(*asked["copy"], scope, k=wanted, min_similarity=least)
            found += [replace(neighbour, match="copy") for neighbour in copies.neighbours]
            generations.append(copies.generation)
        if len(found) < wanted:
            known = {neighbour.image.id for neighbour in found}
            similar = self.find(*asked["similar"], scope, k=wanted, min_similarity=min_similarity)
            found += [n for n in similar.neighbours if n.image.id not in known]
            generations.append(similar.generation)
        page = found[offset : offset + k]
        return Page(page, len(found) >= wanted, ",".join(generations))

    def _generation(self, live: LiveIndex) -> str:
        # An index that is built anew is another object; what comes or goes changes its length.
        index = live.index
        return f"{self._start}.{self._catalogue.changes}.{id(index):x}.{len(index)}"

    def _found(
        self,
        live: LiveIndex,
        vector: Vector,
        scope: Scope,
        wanted: int,
        min_similarity: float,
    ) -> list[Neighbour]:
        """At least the first ``wanted`` neighbours in a scope, or all that reach a similarity."""
        whole = scope == Scope(scope.dataset_ids) and self.answering(live.model_id) <= set(
            scope.dataset_ids
        )
        allowed = None if whole else self._few(scope, live.model_id)
        if allowed is None:
            first = wanted + 1 if whole else max(3 * wanted, 32)
            found = self._among(live, vector, scope, wanted, first, None, min_similarity)
            if found is not None:
                return found
            allowed = self._all_of(scope, live.model_id)
        found = self._among(live, vector, scope, wanted, wanted + 1, allowed, min_similarity)
        return found or []

    def _among(
        self,
        live: LiveIndex,
        vector: Vector,
        scope: Scope,
        wanted: int,
        fetch: int,
        allowed: Ids | None,
        min_similarity: float,
    ) -> list[Neighbour] | None:
        """Neighbours in a scope, best first, by fetching ever more; None when that is not the way.

        ``wanted`` are enough; ``fetch`` are asked for at first; ``allowed`` are the ids in the
        scope, if they are known.
        """
        there = len(live.index) if allowed is None else len(allowed)
        most = max(_MOST_FETCHED, 2 * wanted)
        fetch = min(fetch, most)
        while True:
            with self._measures.timed("query", "index"):
                ids, cosines = live.index.search(vector, fetch, allowed)
            complete, exhausted = fetch >= there, len(ids) < fetch
            order = np.lexsort((ids, -cosines))
            if not complete and not exhausted:
                # Others as similar as the last ones may have been left out, with lower ids.
                order = order[: int(np.count_nonzero(cosines > cosines[-1]))]
            found = self._images(ids[order].tolist(), cosines[order].tolist(), scope)
            # Nothing is less similar than 0, whatever its cosine.
            reached = min_similarity > 0 and len(order) > 0
            reached = reached and 100 * float(cosines[order[-1]]) < min_similarity
            if complete or reached or len(found) >= wanted:
                return found
            kept = {neighbour.image.vector_id for neighbour in found}
            if exhausted and (allowed is not None or len(kept) == len(ids)):
                return found  # an approximate index has no more
            if exhausted or (allowed is None and fetch >= most):
                return None
            share = len(found) / max(1, len(order))
            aim = math.ceil(_SPARE * wanted / share) if share else most
            fetch = max(2 * fetch, aim) if allowed is not None else min(max(2 * fetch, aim), most)

    def _images(
        self, ids: Sequence[int], cosines: Sequence[float], scope: Scope
    ) -> list[Neighbour]:
        with self._measures.timed("query", "catalogue"):
            images = self._catalogue.images_of_vectors(ids, scope.dataset_ids)
        return [
            Neighbour(image, cosine)
            for vector_id, cosine in zip(ids, cosines)
            for image in images.get(vector_id, ())
            if scope.admits(image)
        ]

    def _few(self, scope: Scope, model_id: str) -> Ids | None:
        """The ids in a scope; None when it has many images."""
        key, now = (scope, model_id), time.monotonic()
        if self._large.get(key, 0.0) > now:
            return None
        ids = self._small.get(
            key,
            self._catalogue.changes,
            lambda: self._catalogue.vector_ids_in(scope, model_id, most=_SMALL),
        )
        if ids is None:
            if len(self._large) > 256:
                self._large.clear()
            self._large[key] = now + _LARGE_FOR_S
        return ids

    def _all_of(self, scope: Scope, model_id: str) -> Ids:
        def make() -> Ids:
            ids = self._catalogue.vector_ids_in(scope, model_id)
            assert ids is not None  # noqa: S101 - without a bound there is no other answer
            return ids

        return self._ids.get((scope, model_id), self._catalogue.changes, make)
