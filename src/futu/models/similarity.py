"""What a cosine means: similarities from 0 to 100 that say the same whatever model they are by."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Points = tuple[tuple[float, float], ...]

SAME_PICTURE = 95.0
"""The similarity from which two pictures are taken for the same one."""

PRESETS = {"strict": 99.0, "normal": SAME_PICTURE, "loose": 90.0}
"""Similarities that people choose by name."""

MEANING = {80.0: 0.8, 90.0: 0.95, 95.0: 0.99, 99.0: 0.999}
"""What a similarity stands for: of the pairs that have it or more, how many are the same picture,
in a library like that of ``benchmarks.copies``, which measures it."""


@dataclass(frozen=True)
class Scale:
    """A map between the cosine of two vectors of a model and a similarity, straight between points.

    Attributes:
        points: cosine and similarity, both ascending; below the first the similarity is 0, above
            the last 100.
    """

    points: Points = ((0.0, 0.0), (1.0, 100.0))

    def similarity(self, cosine: float) -> float:
        """0-100, in hundredths."""
        return round(_along(self.points, cosine, 0), 2)

    def cosine(self, similarity: float) -> float:
        """The cosine that is shown as this similarity."""
        return _along(self.points, similarity, 1)


def check_points(points: Sequence[tuple[float, float]]) -> Points:
    """The points of a scale.

    Raises:
        ValueError: they do not rise, or do not end at a cosine of 1 and a similarity of 100.
    """
    kept = tuple((float(cosine), float(shown)) for cosine, shown in points)
    pairs = list(itertools.pairwise(kept))
    if not pairs or not all(a[0] < b[0] and a[1] < b[1] for a, b in pairs):
        raise ValueError("similarity must have two or more points, each above the one before")
    if kept[0][0] < -1 or kept[0][1] < 0 or kept[-1] != (1.0, 100.0):
        raise ValueError(
            "similarity must begin at a cosine of -1 or more and end with [1.0, 100.0]"
        )
    return kept


def _along(points: Points, value: float, axis: int) -> float:
    """The other coordinate of the point of a line that has this one."""
    place = bisect.bisect_right(points, value, key=lambda point: point[axis])
    if place == 0:
        return points[0][1 - axis]
    if place == len(points):
        return points[-1][1 - axis]
    low, high = points[place - 1], points[place]
    share = (value - low[axis]) / (high[axis] - low[axis])
    return low[1 - axis] + share * (high[1 - axis] - low[1 - axis])
