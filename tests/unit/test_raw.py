"""Camera raw files, made up as DNG."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from tests.pictures import dng, encoded, mean_difference, picture

from futu.errors import NoDecoderError
from futu.images.decode import DecodeLimits, decode, inspect

LIMITS = DecodeLimits()


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (3, 180), (6, -90), (8, 90)])
@pytest.mark.parametrize("target", [36, 80])
def test_camera_raw_is_developed_upright(orientation: int, degrees: int, target: int) -> None:
    image = picture(3, (160, 120))
    data = dng(image, orientation)
    info = inspect(data, LIMITS)
    wanted = image.rotate(degrees, expand=True)
    assert (info.format, info.width, info.height) == ("RAW", *wanted.size)
    found = decode(data, LIMITS, target=target)
    scale = 2 if target == 36 else 1  # half size serves the smaller target
    assert found.shape[:2] == (wanted.height // scale, wanted.width // scale)
    grey = np.asarray(wanted.resize(found.shape[1::-1]).convert("L"), np.float64).ravel()
    assert np.corrcoef(found.mean(axis=2).ravel(), grey)[0, 1] > 0.9
    part = decode(data, LIMITS, target=target, crop=(0, 0, 60, 60))
    assert part.shape[0] in (30, 60)


@pytest.mark.parametrize("orientation", [1, 6])
def test_preview_of_a_camera_raw_file_is_used_when_big_enough(orientation: int) -> None:
    shown = picture(4, (160, 120))  # another picture than the sensor's, to be told from it
    data = dng(picture(3, (320, 240)), orientation, encoded(shown, "JPEG", quality=95))
    wanted = shown.rotate(-90, expand=True) if orientation == 6 else shown
    assert mean_difference(decode(data, LIMITS, target=72), wanted) < 4
    bigger = decode(data, LIMITS, target=80)
    assert sorted(bigger.shape[:2]) == [160, 240]  # developed at 320 x 240, then reduced


def test_preview_that_shows_another_part_is_not_used() -> None:
    wide = encoded(picture(4, (320, 120)), "JPEG")
    data = dng(picture(3, (320, 240)), 1, wide)
    assert decode(data, LIMITS, target=60).shape == (120, 160, 3)


def test_camera_raw_without_its_package_names_file_and_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoDecoderError, match=r"IMG_1\.NEF.*pip install rawpy"):
        inspect(dng(picture(1)), LIMITS, "IMG_1.NEF")
