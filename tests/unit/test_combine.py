"""More like these, less like those: one vector of several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from futu.controller.query import combine
from futu.errors import InvalidRequestError


def unit(*values: float) -> npt.NDArray[np.float32]:
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def test_one_picture_is_its_own_vector() -> None:
    np.testing.assert_allclose(combine([unit(3, 4, 0)], []), [0.6, 0.8, 0], atol=1e-6)


def test_wanted_pictures_count_alike_however_many_are_unwanted() -> None:
    wanted = [unit(1, 0, 0), unit(0, 1, 0)]
    np.testing.assert_allclose(combine(wanted, []), unit(1, 1, 0), atol=1e-6)
    for count in (1, 3):
        found = combine(wanted, [unit(0, 1, 0)] * count, 0.5)
        np.testing.assert_allclose(found, unit(1, 0, 0), atol=1e-6)


def test_unwanted_picture_is_farther_the_more_it_weighs() -> None:
    wanted, unwanted = [unit(1, 1, 0)], [unit(0, 1, 1)]
    cosines = [float(combine(wanted, unwanted, w) @ unwanted[0]) for w in (0.0, 0.25, 0.5, 1.0)]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] - cosines[-1] > 0.4
    assert np.linalg.norm(combine(wanted, unwanted, 0.7)) == pytest.approx(1, abs=1e-5)


def test_pictures_that_cancel_each_other_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="cancel each other"):
        combine([unit(1, 2, 0)], [unit(1, 2, 0)], 1.0)
