"""From pairs of contents that may be copies to groups around a keeper.

Copies of copies form chains: each link is near enough, the ends are not. So a group is not a
connected component but a star in one: every member is near enough to the keeper itself. What is
not, looks for a keeper among the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of ids, each once, and their cosine similarities.

    Attributes:
        left, right: int64, shape (n,).
        cosines: float32, shape (n,).
    """

    left: Ids
    right: Ids
    cosines: Cosines

    def __len__(self) -> int:
        return len(self.left)

    def ids(self) -> Ids:
        """All that are in a pair, ascending."""
        ids = np.sort(np.concatenate([self.left, self.right]), kind="stable")
        first = np.diff(ids, prepend=-1) != 0
        return np.asarray(ids[first])

    @classmethod
    def join(cls, pieces: Sequence[Pairs]) -> Pairs:
        """Pairs of several pieces, each once whichever way round; the higher cosine counts."""
        if not pieces:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        left = np.concatenate([np.minimum(p.left, p.right) for p in pieces])
        right = np.concatenate([np.maximum(p.left, p.right) for p in pieces])
        cosines = np.concatenate([p.cosines for p in pieces])
        order = np.lexsort((-cosines, right, left))
        left, right, cosines = left[order], right[order], cosines[order]
        first = np.ones(len(left), np.bool_)
        first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
        first &= left != right
        return cls(left[first], right[first], cosines[first])


def components(pairs: Pairs) -> list[Ids]:
    """The ids of each connected component, ascending; components by their lowest id."""
    ids = pairs.ids()
    root = np.arange(len(ids))
    left, right = np.searchsorted(ids, pairs.left), np.searchsorted(ids, pairs.right)
    while True:
        # Each round every tree is hung below a lower one that a pair connects it to, and the paths
        # are halved until they are gone: Shiloach and Vishkin 1982.
        low = np.minimum(root[left], root[right])
        high = np.maximum(root[left], root[right])
        if not (low < high).any():
            break
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root = root[root]
    order = np.argsort(root, kind="stable")
    borders = np.flatnonzero(np.diff(root[order])) + 1
    return np.split(ids[order], borders) if len(ids) else []


Near = Callable[[int, Sequence[int]], tuple[Cosines, npt.NDArray[np.bool_]]]
"""A thing and others -> the cosine of each to it, and whether each is near enough."""


def stars(order: Sequence[int], near: Near) -> Iterator[list[tuple[int, float]]]:
    """Part things into groups around keepers.

    Args:
        order: things in the order in which they are to be kept.
        near: which are near enough to one.

    Yields:
        The keeper with 1.0, then the members with their cosines, in the order given. A thing that
        is near enough to no keeper comes alone.
    """
    left = list(order)
    while left:
        keeper, rest = left[0], left[1:]
        if not rest:
            yield [(keeper, 1.0)]
            return
        cosines, inside = near(keeper, rest)
        yield [(keeper, 1.0), *((t, float(c)) for t, c, i in zip(rest, cosines, inside) if i)]
        left = [thing for thing, is_in in zip(rest, inside) if not is_in]


def shown(members: Sequence[int], apart: Callable[[int], Collection[int]]) -> list[bool]:
    """Which members of a group are to be looked at, after what people have decided.

    Of members that they said are no duplicates of each other only the first is shown, so that no
    two of those shown were decided about. When one alone is left, all were.

    Args:
        members: ids, the keeper first.
        apart: an id -> the ids of the decisions that it is in.
    """
    seen: set[int] = set()
    result = []
    for member in members:
        decisions = set(apart(member))
        free = not (decisions & seen)
        if free:
            seen |= decisions
        result.append(free)
    return result
