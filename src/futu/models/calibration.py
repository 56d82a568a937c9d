"""What thresholds find and what they mistake, from cosines of known copies and of others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRECISIONS = {"strict": 0.999, "normal": 0.99, "loose": 0.95}
"""What the presets promise: of the pictures that are called copies, how many are."""

Cosines = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A threshold and what comes of it.

    Attributes:
        cosine: the threshold.
        recall: share of the copies that have it or more.
        precision: of all that have it or more, the share that are copies; 1 when none has.
        wrong: how many that are no copies have it or more.
    """

    cosine: float
    recall: float
    precision: float
    wrong: int


class Curve:
    """Cosines of copies to their originals, and of the same copies to other pictures.

    Args:
        copies: one for each edited copy; -1 for one whose original was not found.
        others: the highest of those to other pictures; below them all may be left out.
    """

    def __init__(self, copies: Sequence[float], others: Sequence[float]) -> None:
        self._copies: Cosines = np.sort(np.asarray(copies, np.float64))
        self._others: Cosines = np.sort(np.asarray(others, np.float64))

    def at(self, cosine: float) -> Point:
        """What a threshold brings."""
        found = len(self._copies) - int(np.searchsorted(self._copies, cosine, "left"))
        wrong = len(self._others) - int(np.searchsorted(self._others, cosine, "left"))
        recall = found / len(self._copies) if len(self._copies) else 0.0
        return Point(cosine, recall, found / (found + wrong) if found + wrong else 1.0, wrong)

    def threshold(self, precision: float) -> Point | None:
        """The threshold that finds most copies at a precision, one more mistake counted than seen.

        So a sample that is too small to show a precision has no threshold for it: without any
        mistake, n copies show one of n / (n + 1).

        Args:
            precision: wanted, below 1.

        Returns:
            None when no threshold is known to have it.
        """
        found = np.arange(len(self._copies), 0, -1)
        wrong = len(self._others) - np.searchsorted(self._others, self._copies, "left")
        good = np.flatnonzero((found / (found + wrong + 1) >= precision) & (self._copies > 0))
        return self.at(_rounded(float(self._copies[good[0]]))) if len(good) else None

    def presets(
        self, otherwise: Mapping[str, float], least: float
    ) -> tuple[dict[str, float], list[str]]:
        """A threshold for each preset; and the presets for which none could be measured.

        Args:
            otherwise: cosines to fall back on.
            least: none is below.
        """
        chosen, unknown = dict[str, float](), list[str]()
        most = 1.0
        for name, precision in PRECISIONS.items():
            point = self.threshold(precision)
            if point is None:
                unknown.append(name)
            # A looser one is never above a stricter one.
            measured = otherwise[name] if point is None else max(least, point.cosine)
            most = min(most, measured)
            chosen[name] = most
        return chosen, unknown


def _rounded(cosine: float) -> float:
    """Down, so that what has it stays above."""
    return math.floor(cosine * 10_000) / 10_000
