"""From a vector to the nearest images of a scope, page by page."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import Ids, ImageRecord, Scope
from futu.catalogue.store import Catalogue
from futu.controller.fresh import FreshCache
from futu.controller.presence import Presence
from futu.index.live import LiveIndex
from futu.jobs.measures import Measures
from futu.models.similarity import SAME_PICTURE, Scale

Vector = npt.NDArray[np.floating]

_SMALL = 65536
"""Images of a scope up to which their ids are handed to the index."""

_MOST_FETCHED = 4096
"""Neighbours that are fetched and looked through for those in a larger scope."""

_SPARE = 1.5
_MOST_LOOKS = 5
_LARGE_FOR_S = 60.0
_PLAIN = Scale()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image, its cosine to the query by the vectors for ``match``, and what that means.

    Attributes:
        similarity: 0-100, by the scale of the model; see ``Scale``.
    """

    image: ImageRecord
    cosine: float
    similarity: float
    model_id: str
    match: str = "similar"


@dataclass(frozen=True, slots=True)
class Page:
    """Some neighbours, best first.

    Attributes:
        more: whether there are others after them.
        generation: of catalogue and index; pages of one generation fit together.
        model_ids: of the models whose vectors were searched; without those for copies that come
            first.
    """

    neighbours: list[Neighbour]
    more: bool
    generation: str
    model_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What one index is asked.

    Attributes:
        live: the index.
        vector: shape (dimension,), unit length.
        scope: which images.
        match: the question that its model answers.
        whole: whether the datasets of the scope are all that its model serves.
    """

    live: LiveIndex
    vector: Vector
    scope: Scope
    match: str = "similar"
    whole: bool = False


class Neighbours:
    """Finds the nearest images of a scope.

    The index knows ids, not scopes. How it is asked depends on how many images are in the scope:

    - all that answer the question: for as many as are wanted;
    - at most ``_SMALL``: among their ids, which the catalogue finds by an index of its own;
    - more: for more than are wanted, and those outside the scope are left out. When too few are
      left, as when one dataset looks quite unlike the query, among the ids again.

    Args:
        catalogue: images and their vectors.
        scale_of: model_id -> what its cosines mean; else they are shown as they are, times 100.
        measures: has the times of index and catalogue.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        scale_of: Callable[[str], Scale] = lambda _: _PLAIN,
        measures: Measures | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._scale_of = scale_of
        self._measures = measures or Measures()
        self._presence = Presence(catalogue)
        self._start = secrets.token_hex(4)
        self._small: FreshCache[Ids | None] = FreshCache(64)
        self._ids: FreshCache[Ids] = FreshCache(8)
        self._large: dict[tuple[Scope, str], float] = {}

    def find(self, asked: Asked, *, k: int, offset: int = 0, min_similarity: float = 0.0) -> Page:
        """A page of the images of a scope that are most similar to a vector, best first.

        Equally similar ones are ordered by id, so that pages neither overlap nor leave out any.
        Files that were deleted are no results, and others take their places.

        Args:
            asked: which, of which index.
            k: how many at most.
            offset: how many come before.
            min_similarity: 0-100.
        """
        live, wanted = asked.live, offset + k + 1
        for _ in range(_MOST_LOOKS):
            before = self._generation(live)
            found = self._found(asked, wanted, min_similarity)
            after = self._generation(live)
            page = [n for n in found[offset : offset + k] if n.similarity >= min_similarity]
            gone = self._presence.gone(neighbour.image for neighbour in page)
            if not gone:
                break
            page = [neighbour for neighbour in page if neighbour.image.id not in gone]
        following = found[offset + k : wanted]
        more = bool(following) and following[0].similarity >= min_similarity
        generation = before if before == after else f"{before}+{after}"
        return Page(page, more, generation, (live.model_id,))

    def in_turn(
        self, asked: Sequence[Asked], *, k: int, offset: int = 0, min_similarity: float = 0.0
    ) -> Page:
        """A page of the images that several models find.

        Their similarities are not comparable, so the first neighbours of each come first, then
        the second ones of each, and so on.
        """
        if len(asked) == 1:
            return self.find(asked[0], k=k, offset=offset, min_similarity=min_similarity)
        wanted = offset + k + 1
        pages = [self.find(one, k=wanted, min_similarity=min_similarity) for one in asked]
        ranks = zip_longest(*(page.neighbours for page in pages))
        found = [neighbour for rank in ranks for neighbour in rank if neighbour is not None]
        return Page(
            found[offset : offset + k],
            len(found) >= wanted,
            ",".join(page.generation for page in pages),
            tuple(one.live.model_id for one in asked),
        )

    def copies_first(
        self,
        copies: Sequence[Asked],
        similar: Sequence[Asked],
        *,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Page:
        """A page of the copies of a picture and, after them, of what looks like it.

        Copies have at least ``SAME_PICTURE`` by the vectors for ``copy``; they are not repeated
        among the others.

        Args:
            copies: what indexes for ``copy`` are asked; without any there are only look-alikes.
            similar: what the others are asked.
            k: how many at most.
            offset: how many come before.
            min_similarity: 0-100.
        """
        if not copies:
            return self.in_turn(similar, k=k, offset=offset, min_similarity=min_similarity)
        wanted = offset + k + 1
        least = max(min_similarity, SAME_PICTURE)
        first = self.in_turn(copies, k=wanted, min_similarity=least)
        found, generations = list(first.neighbours), [first.generation]
        if len(found) < wanted:
            known = {neighbour.image.id for neighbour in found}
            rest = self.in_turn(similar, k=wanted, min_similarity=min_similarity)
            found += [n for n in rest.neighbours if n.image.id not in known]
            generations.append(rest.generation)
        model_ids = tuple(one.live.model_id for one in similar)
        page = found[offset : offset + k]
        return Page(page, len(found) >= wanted, ",".join(generations), model_ids)

    def _generation(self, live: LiveIndex) -> str:
        # An index that is built anew is another object; what comes or goes changes its length.
        index, count = live.index, live.known_count()
        return f"{self._start}.{self._catalogue.changes}.{id(index):x}.{count}"

    def _found(self, asked: Asked, wanted: int, min_similarity: float) -> list[Neighbour]:
        """At least the first ``wanted`` neighbours in a scope, or all that reach a similarity."""
        scope, model_id = asked.scope, asked.live.model_id
        whole = asked.whole and scope == Scope(scope.dataset_ids)
        allowed = None if whole else self._few(scope, model_id)
        if allowed is None:
            first = wanted + 1 if whole else max(3 * wanted, 32)
            found = self._among(asked, wanted, first, None, min_similarity)
            if found is not None:
                return found
            allowed = self._all_of(scope, model_id)
        return self._among(asked, wanted, wanted + 1, allowed, min_similarity) or []

    def _among(
        self,
        asked: Asked,
        wanted: int,
        fetch: int,
        allowed: Ids | None,
        min_similarity: float,
    ) -> list[Neighbour] | None:
        """Neighbours in a scope, best first, by fetching ever more; None when that is not the way.

        ``wanted`` are enough; ``fetch`` are asked for at first; ``allowed`` are the ids in the
        scope, if they are known.
        """
        live = asked.live
        there = live.known_count() if allowed is None else len(allowed)
        most = max(_MOST_FETCHED, 2 * wanted)
        scale = self._scale_of(live.model_id)
        fetch = min(fetch, most)
        while True:
            with self._measures.timed("query", "index"):
                ids, cosines = live.index.search(asked.vector, fetch, allowed)
            complete, exhausted = there is not None and fetch >= there, len(ids) < fetch
            order = np.lexsort((ids, -cosines))
            if not complete and not exhausted:
                # Others as similar as the last ones may have been left out, with lower ids.
                order = order[: int(np.count_nonzero(cosines > cosines[-1]))]
            found = self._images(ids[order].tolist(), cosines[order].tolist(), asked, scale)
            last = scale.similarity(float(cosines[order[-1]])) if len(order) else 100.0
            # Nothing is less similar than 0, whatever its cosine.
            reached = last < min_similarity
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
        self, ids: Sequence[int], cosines: Sequence[float], asked: Asked, scale: Scale
    ) -> list[Neighbour]:
        scope, model_id = asked.scope, asked.live.model_id
        with self._measures.timed("query", "catalogue"):
            images = self._catalogue.images_of_vectors(ids, scope.dataset_ids)
        return [
            Neighbour(image, cosine, scale.similarity(cosine), model_id, asked.match)
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
