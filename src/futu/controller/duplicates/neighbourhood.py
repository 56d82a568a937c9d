"""The nearest neighbours of every content, and which of them are near enough to be copies.

A cosine alone does not tell copies well: where many pictures look alike, unrelated ones are as near
as edited copies are elsewhere. So, in a library that is large enough to tell, a pair below the
threshold counts too when it stands out: when each of the two is nearer to the other than to the
next pictures, by a margin. It is the idea of the score normalisation in Pizzi et al., "A
Self-Supervised Descriptor for Image Copy Detection" (CVPR 2022), section 4.3, with what the library
itself holds as the background. Copies of one picture would hide one another; so contents that are
surely copies count as one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from futu.controller.duplicates.groups import Cosines, Ids, Pairs, components
from futu.index.base import Index

Positions = npt.NDArray[np.int64]
Fetch = Callable[[Sequence[int]], Iterator[tuple[Ids, npt.NDArray[np.floating]]]]

_K = 16
_DEEPER = 128
_AT_ONCE = 512
_OTHERS = 3
_FEW = 250
"""With fewer pictures there is nothing to stand out from: unrelated ones differ too much."""
_ROUGH = 0.02
"""Similarities of an index of one byte a dimension may be off by so much; vectors decide later."""


@dataclass(frozen=True)
class Rule:
    """When two contents are copies.

    Attributes:
        sure: cosine from which they are.
        least: cosine from which they are when they stand out.
        margin: by which they have to.
    """

    sure: float
    least: float = 1.0
    margin: float = 1.0

    @property
    def floor(self) -> float:
        """Below this nothing is a copy."""
        return min(self.sure, self.least)


class Neighbourhood:
    """Neighbours of contents, found by an index.

    Args:
        ids: of vectors, ascending.
        index: has them.
        fetch: gives the vectors of ids.
        whole: whether the index has no others.
        rule: when two are copies.
        step: told how many are done, after each piece; may raise to end it.
    """

    def __init__(
        self,
        ids: Ids,
        index: Index,
        fetch: Fetch,
        rule: Rule,
        *,
        whole: bool,
        step: Callable[[int], None],
    ) -> None:
        self.ids = ids
        self.rule = rule
        self._allowed = None if whole else ids
        k = min(_K, max(1, len(ids) - 1))
        # Positions in ids, and cosines: of the k nearest of each, itself left out.
        self._nearest = np.full((len(ids), k), -1, np.int32)
        self._cosines = np.full((len(ids), k), -1, np.float16)
        self._deep: list[Pairs] = []
        for rows, vectors in _pieces(ids, fetch):
            found, cosines = self._search(index, rows, vectors, k)
            self._nearest[rows], self._cosines[rows] = found, cosines
            full = cosines[:, -1] >= rule.sure
            if full.any() and k < len(ids) - 1:
                self._deepen(index, rows[full], vectors[full])
            step(int(rows[-1]) + 1)
        self._sure = self._grouped()
        self._pictures = int(np.count_nonzero(self._sure == np.arange(len(ids))))
        self._others, self._other_groups = self._first_others()

    def pairs(self) -> Pairs:
        """Pairs of ids that are copies, as far as the index's own cosines tell."""
        found = self._edges(self.rule.floor - _ROUGH)
        cosines = found.cosines.astype(np.float64)
        near = cosines >= self.rule.sure - _ROUGH
        near |= self.margins(found.left, found.right, found.cosines) >= self.rule.margin - _ROUGH
        left, right = self.ids[found.left[near]], self.ids[found.right[near]]
        return Pairs(left, right, found.cosines[near])

    def accepts(self, keeper: int, others: Ids, cosines: Cosines) -> npt.NDArray[np.bool_]:
        """Which of some contents are copies of one, given their cosines to it; all by id."""
        inside = cosines >= self.rule.sure
        maybe = np.flatnonzero(~inside & (cosines >= self.rule.least))
        if len(maybe):
            right = np.searchsorted(self.ids, others[maybe])
            left = np.full(len(right), np.searchsorted(self.ids, keeper))
            inside[maybe] = self.margins(left, right, cosines[maybe]) >= self.rule.margin
        return inside

    def margins(self, left: Positions, right: Positions, cosines: Cosines) -> Cosines:
        """By how much pairs are nearer than the next pictures of both are; by position."""
        if self._pictures < _FEW:
            return np.full(len(cosines), -1, np.float32)
        background = (self._background(left, right) + self._background(right, left)) / 2
        return np.asarray(cosines - background, np.float32)

    def _background(self, ours: Positions, theirs: Positions) -> Cosines:
        """Mean cosine of contents to the nearest pictures that are neither of the two."""
        others = self._others[ours].astype(np.float32)
        known = self._other_groups[ours] == self._sure[theirs][:, None]
        others[known] = 0.0
        others[~known.any(axis=1), -1] = 0.0
        return np.asarray(others.sum(axis=1) / _OTHERS, np.float32)

    def _search(
        self, index: Index, rows: Positions, vectors: npt.NDArray[np.floating], k: int
    ) -> tuple[Positions, Cosines]:
        """Positions and cosines of the k nearest, themselves left out."""
        found, cosines = index.search_many(vectors, k + 1, self._allowed)
        # What came into the index after ids were asked for is not among them.
        at = np.minimum(np.searchsorted(self.ids, found), len(self.ids) - 1)
        others = (found >= 0) & (self.ids[at] == found) & (at != rows[:, None])
        order = np.argsort(~others, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(others, order, axis=1)
        at = np.where(kept, np.take_along_axis(at, order, axis=1), -1)
        return at, np.where(kept, np.take_along_axis(cosines, order, axis=1), np.float32(-1))

    def _deepen(self, index: Index, rows: Positions, vectors: npt.NDArray[np.floating]) -> None:
        """Find more of what has too many copies to be among the nearest few."""
        k = min(_DEEPER, len(self.ids) - 1)
        found, cosines = self._search(index, rows, vectors, k)
        sure = cosines >= self.rule.sure
        left = np.broadcast_to(rows[:, None], sure.shape)[sure]
        self._deep.append(Pairs(left, found[sure], cosines[sure]))

    def _edges(self, least: float) -> Pairs:
        """Pairs of positions with at least a cosine."""
        near = self._cosines >= least
        left = np.nonzero(near)[0]
        found = Pairs(left, self._nearest[near].astype(np.int64), self._cosines[near].astype("f4"))
        return Pairs.join([found, *self._deep])

    def _grouped(self) -> npt.NDArray[np.int64]:
        """By position, the picture it surely is: its lowest copy."""
        pictures = np.arange(len(self.ids))
        for component in components(self._edges(self.rule.sure)):
            pictures[component] = component[0]
        return pictures

    def _first_others(self) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]:
        """Cosine and picture of the nearest few pictures that are not its own, best first.

        What the list of neighbours is too short for is taken to be as near as its last.
        """
        count, k = self._nearest.shape
        cosines = np.zeros((count, _OTHERS + 1), np.float16)
        if k == _K:
            cosines[:] = np.maximum(self._cosines[:, -1:], 0)
        pictures = np.full((count, _OTHERS + 1), -1, np.int64)
        filled = np.zeros(count, np.int64)
        for column in range(k):
            at = self._nearest[:, column]
            picture = np.where(at >= 0, self._sure[at], -1)
            new = (at >= 0) & (picture != self._sure) & (filled <= _OTHERS)
            new &= (pictures != picture[:, None]).all(axis=1)
            rows = np.flatnonzero(new)
            cosines[rows, filled[rows]] = np.maximum(self._cosines[rows, column], 0)
            pictures[rows, filled[rows]] = picture[rows]
            filled[rows] += 1
        return cosines, pictures


def _pieces(ids: Ids, fetch: Fetch) -> Iterator[tuple[Positions, npt.NDArray[np.floating]]]:
    """Positions and vectors, some at a time."""
    for start in range(0, len(ids), _AT_ONCE):
        for found, vectors in fetch(ids[start : start + _AT_ONCE].tolist()):
            yield np.searchsorted(ids, found), vectors.astype(np.float32)
