"""How well similarities tell copies: the measures of the Image Similarity Challenge 2021.

Source: the evaluation code of that challenge (github.com/facebookresearch/isc2021, isc/metrics.py),
with which Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection" (CVPR 2022) and
its data set DISC2021 are evaluated. Written anew, for matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Similarities = npt.NDArray[np.float32]
PRECISION = 0.99


@dataclass(frozen=True)
class Scores:
    """Measures of one contender over some queries.

    Attributes:
        recall_at_1: share of the queries whose original is more similar than all others.
        average_precision: over all pairs of a query and a gallery picture, ranked together
            ("micro"): the mean, over the true pairs, of the precision at their rank.
        recall: the largest share of the true pairs found at a precision of at least
            ``PRECISION``.
        threshold: the similarity at which it is; None when there is none.
    """

    recall_at_1: float
    average_precision: float
    recall: float
    threshold: float | None


class Ranking:
    """Similarities of true pairs and of the other pairs; several can be pooled.

    Args:
        similarities: float32, shape (queries, gallery).
        truth: int, shape (queries,): the gallery index of each query's original.
        same: bool, shape (gallery, gallery): originals that are the same picture. A pair of a
            query and a picture that is the same as its original is no mistake and no success:
            it is left out.
    """

    def __init__(
        self,
        similarities: Similarities,
        truth: npt.NDArray[np.intp],
        same: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        rows = np.arange(len(truth))
        self.true = similarities[rows, truth]
        left_out = np.zeros(similarities.shape, bool) if same is None else same[truth]
        left_out[rows, truth] = True
        others = np.where(left_out, -np.inf, similarities)
        self.first = self.true > others.max(axis=1)
        self.others = others[~left_out]

    @classmethod
    def pooled(cls, rankings: list[Ranking]) -> Ranking:
        """All queries of several rankings."""
        pool = cls.__new__(cls)
        pool.true = np.concatenate([r.true for r in rankings])
        pool.first = np.concatenate([r.first for r in rankings])
        pool.others = np.concatenate([r.others for r in rankings])
        return pool

    def scores(self) -> Scores:
        """The measures. Among equal similarities the wrong pairs count as ranked first."""
        true = np.sort(self.true)[::-1]
        found = np.arange(1, len(true) + 1)
        others = np.sort(self.others)
        wrong = len(others) - np.searchsorted(others, true, side="left")
        precision = found / (found + wrong)
        good = np.flatnonzero(precision >= PRECISION)
        return Scores(
            float(self.first.mean()),
            float(precision.mean()),
            float(found[good[-1]] / len(true)) if len(good) else 0.0,
            float(true[good[-1]]) if len(good) else None,
        )
