"""What was done to a copy, told from small pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from futu.controller.duplicates.edits import Edit, edit_of

Way = Image.Transpose


def picture(seed: int = 1) -> Image.Image:
    """Discs of many colours and sizes: no two places alike."""
    dice = np.random.default_rng(seed)
    image = Image.new("RGB", (240, 320), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(90):
        x, y, radius = dice.uniform(0, 240), dice.uniform(0, 320), dice.uniform(4, 40)
        colour = tuple(int(c) for c in dice.integers(0, 255, 3))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    return image


def edit(copy: Image.Image, keeper: Image.Image | None = None) -> Edit | None:
    kept = keeper or picture()
    return edit_of(np.asarray(kept), np.asarray(copy), kept.size, copy.size)


@pytest.mark.parametrize(
    ("copy", "wanted"),
    [
        (picture(), Edit(recompressed=True)),
        (picture().resize((120, 160)), Edit(resized=True)),
        (picture().resize((160, 160)), Edit(resized=True, stretched=True)),
        (picture().transpose(Way.FLIP_LEFT_RIGHT), Edit(mirrored=True)),
        (picture().transpose(Way.FLIP_TOP_BOTTOM), Edit(mirrored=True, rotated=180)),
        (picture().transpose(Way.ROTATE_270), Edit(rotated=90)),
        (picture().transpose(Way.ROTATE_180), Edit(rotated=180)),
        (picture().transpose(Way.ROTATE_90), Edit(rotated=270)),
        (picture().transpose(Way.TRANSPOSE), Edit(mirrored=True, rotated=270)),
        (picture().transpose(Way.ROTATE_90).resize((160, 120)), Edit(rotated=270, resized=True)),
        (picture().convert("L").convert("RGB"), Edit(grey=True)),
    ],
)
def test_edit_of_the_whole_picture_is_told(copy: Image.Image, wanted: Edit) -> None:
    assert edit(copy) == wanted


@pytest.mark.parametrize("mirrored", [False, True])
def test_crop_is_told_with_its_place(mirrored: bool) -> None:
    copy = picture().crop((60, 80, 210, 290))
    found = edit(copy.transpose(Way.FLIP_LEFT_RIGHT) if mirrored else copy)
    assert found is not None
    assert found.mirrored == mirrored
    assert found.cropped == pytest.approx((60 / 240, 80 / 320, 150 / 240, 210 / 320), abs=0.03)


def test_crop_that_was_resized_is_told() -> None:
    found = edit(picture().crop((60, 80, 210, 290)).resize((300, 420)))
    assert found is not None
    assert found.cropped == pytest.approx((60 / 240, 80 / 320, 150 / 240, 210 / 320), abs=0.06)


def test_keeper_that_is_a_part_of_the_copy_is_told() -> None:
    found = edit(picture(), keeper=picture().crop((0, 0, 180, 240)))
    assert found is not None
    assert found.extended == pytest.approx((0, 0, 0.75, 0.75), abs=0.03)


def test_nothing_is_told_of_other_pictures_and_of_plain_ones() -> None:
    assert edit(picture(2)) is None
    assert edit(Image.new("RGB", (240, 320), "white")) is None


def test_only_what_is_so_is_said() -> None:
    assert Edit(mirrored=True, rotated=90).json() == {"mirrored": True, "rotated": 90}
