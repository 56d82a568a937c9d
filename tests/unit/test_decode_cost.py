"""What a decode will cost; benchmarks/decoding_memory.py measures what it does cost."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from tests.pictures import encoded, heic, jpeg, picture

from futu.images.decode import DecodeLimits, inspect
from futu.images.info import decode_cost

LIMITS = DecodeLimits()


def cost(data: bytes, target: int = 224, **options: Any) -> int:
    return decode_cost(inspect(data, LIMITS), target, **options)


def test_cost_of_a_jpeg_is_that_of_its_scaled_picture() -> None:
    image = picture(1, (3000, 2400))
    nothing = cost(jpeg(1, (8, 8)))
    baseline = cost(encoded(image, "JPEG")) - nothing
    assert baseline == pytest.approx(3000 * 2400 / 16 * 4, rel=0.01)  # at a quarter
    assert cost(encoded(image, "JPEG"), 160) - nothing == pytest.approx(baseline / 4, rel=0.01)
    part = cost(encoded(image, "JPEG"), crop=(0, 0, 300, 300)) - nothing
    assert part == pytest.approx(3000 * 2400 * 4, rel=0.01)
    held = cost(encoded(image, "JPEG", progressive=True)) - nothing
    assert held - baseline == pytest.approx(3000 * 2400 * 3, rel=0.01)  # 4:2:0, 16 bits


@pytest.mark.parametrize(
    ("data", "least", "most"),
    [
        (encoded(Image.new("RGB", (2000, 1500)), "PNG"), 4, 6),
        (encoded(Image.new("L", (2000, 1500)), "PNG"), 1, 3),
        (encoded(Image.new("RGB", (2000, 1500)), "WEBP"), 16, 18),
        (encoded(Image.new("RGB", (2000, 1500)), "TIFF", compression="tiff_lzw"), 4, 7),
        (heic(Image.new("RGB", (2000, 1500))), 5.25, 9),
    ],
)
def test_cost_of_other_formats_is_that_of_the_whole(data: bytes, least: float, most: float) -> None:
    assert least <= cost(data) / (2000 * 1500) <= most
