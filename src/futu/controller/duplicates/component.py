"""A connected component of contents, parted into groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from futu.catalogue.duplicate_records import FoundMember, ReadyImage
from futu.catalogue.duplicate_schema import EXACT, NEAR, PIXELS
from futu.controller.duplicates.groups import Cosines, Ids, Pairs, stars
from futu.controller.duplicates.neighbourhood import Fetch, Neighbourhood
from futu.controller.keeping import RULES, by_keeping
from futu.models.similarity import Scale

LARGE = 20_000
"""Contents of a component up to which each keeper is compared with all others; above, only with
those that the index found to be near."""

Known = Callable[[int, Ids], Cosines]
"""A vector id and others -> the cosine of each to it."""


@dataclass
class Contents:
    """What is known of contents that may be duplicates.

    Attributes:
        hashes: of each its content hash; the other attributes go by its place here.
        images: of each its searchable images in the scope.
        vector_ids: of each the id of its vector; -1: it has none that was compared.
        pixels: content hash -> hash of its pixels, as far as known.
    """

    hashes: list[bytes]
    images: list[list[ReadyImage]]
    vector_ids: list[int]
    pixels: dict[bytes, bytes | None] = field(default_factory=dict)

    def size(self, content: int) -> tuple[int, int]:
        """Width and height, pixels."""
        first = self.images[content][0]
        return first.width, first.height

    def same_pixels(self, one: int, other: int) -> bool:
        """Whether two have the same pixels, as far as is known."""
        mine = self.pixels.get(self.hashes[one])
        return mine is not None and mine == self.pixels.get(self.hashes[other])


class Parting:
    """Parts components into groups of files.

    Args:
        contents: what is known of them.
        around: decides about cosines; None: only equal bytes and pixels count.
        reference: ids of the datasets whose files are always kept.
        keep: the rules that choose keepers, the weightiest first.
        scale: what cosines are shown as.
    """

    def __init__(
        self,
        contents: Contents,
        around: Neighbourhood | None,
        reference: Collection[int],
        keep: Sequence[str] = RULES,
        scale: Scale | None = None,
    ) -> None:
        self._contents = contents
        self._around = around
        self._reference = reference
        self._keep = keep
        self._scale = scale or Scale()

    def groups(self, places: Sequence[int], known: Known) -> Iterator[tuple[FoundMember, ...]]:
        """The groups of a component, each with its keeper first.

        Args:
            places: of its contents.
            known: the cosines between them.
        """
        place_of = {i.id: place for place in places for i in self._contents.images[place]}
        images = [image for place in places for image in self._contents.images[place]]
        ordered = by_keeping(images, self._reference, self._keep)
        at = [place_of[image.id] for image in ordered]

        def near(one: int, others: Sequence[int]) -> tuple[Cosines, npt.NDArray[np.bool_]]:
            return self._near(at[one], [at[other] for other in others], known)

        for star in stars(range(len(ordered)), near):
            if len(star) > 1:
                keeper = star[0][0]
                yield tuple(
                    self._member(ordered[n], at[keeper], at[n], cosine) for n, cosine in star
                )

    def _near(
        self, one: int, others: Sequence[int], known: Known
    ) -> tuple[Cosines, npt.NDArray[np.bool_]]:
        contents = self._contents
        equal = np.array([o == one or contents.same_pixels(one, o) for o in others], np.bool_)
        cosines = np.where(equal, np.float32(1), np.float32(-1))
        mine = contents.vector_ids[one]
        if self._around is not None and mine >= 0:
            ids = np.array([contents.vector_ids[other] for other in others], np.int64)
            asked = np.flatnonzero(~equal & (ids >= 0))
            cosines[asked] = known(mine, ids[asked])
            equal[asked] = self._around.accepts(mine, ids[asked], cosines[asked])
        return cosines, equal

    def _member(self, image: ReadyImage, keeper: int, place: int, cosine: float) -> FoundMember:
        tier = NEAR
        if place == keeper:
            tier = EXACT
        elif self._contents.same_pixels(place, keeper):
            tier = PIXELS
        shown = self._scale.similarity(cosine)
        return FoundMember(image.id, image.content_hash, image.size, tier, cosine, shown)


def by_vectors(vector_ids: Sequence[int], fetch: Fetch) -> Known:
    """Cosines by the vectors of some ids."""
    ids = np.sort(np.array([key for key in vector_ids if key >= 0], np.int64))
    pieces = list(fetch(ids.tolist())) if len(ids) else []
    there = np.concatenate([piece[0] for piece in pieces]) if pieces else ids
    vectors = np.concatenate([piece[1] for piece in pieces]) if pieces else np.empty((0, 0))

    def known(one: int, others: Ids) -> Cosines:
        if not len(there):
            return np.full(len(others), -1, np.float32)
        asked = np.append(others, one)
        rows = np.minimum(np.searchsorted(there, asked), len(there) - 1)
        # A vector may have been removed meanwhile.
        gone = there[rows] != asked
        cosines = vectors[rows].astype(np.float32) @ vectors[rows[-1]].astype(np.float32)
        cosines[gone | gone[-1]] = -1
        return np.asarray(cosines[:-1])

    return known


def by_pairs(pairs: Pairs, vector_ids: Sequence[int]) -> Known:
    """Cosines as far as pairs of places have them; -1 elsewhere.

    Args:
        pairs: of places.
        vector_ids: of all contents, by place.
    """
    found: dict[tuple[int, int], float] = {}
    left, right = pairs.left.tolist(), pairs.right.tolist()
    for one, other, cosine in zip(left, right, pairs.cosines.tolist()):
        found[vector_ids[one], vector_ids[other]] = cosine
        found[vector_ids[other], vector_ids[one]] = cosine

    def known(one: int, others: Ids) -> Cosines:
        return np.array([found.get((one, other), -1.0) for other in others.tolist()], np.float32)

    return known
