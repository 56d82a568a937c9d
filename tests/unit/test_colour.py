"""Colour profiles."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.pictures import (
    DISPLAY_P3,
    SRGB,
    encoded,
    heic,
    icc_profile,
    mean_difference,
    picture,
    png,
)

from futu.images.decode import DecodeLimits, decode

LIMITS = DecodeLimits()
SIZE = (120, 80)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_huge_colour_profile_is_no_reason_to_refuse(kind: str) -> None:
    profile = np.random.default_rng(1).bytes(3_000_000)
    data = encoded(picture(1, SIZE), kind, icc_profile=profile)
    assert mean_difference(decode(data, LIMITS, target=80), picture(1, SIZE)) < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_wide_colours_are_brought_to_srgb(kind: str) -> None:
    stored, profile = Image.new("RGB", SIZE, (234, 51, 35)), icc_profile(DISPLAY_P3)
    if kind == "HEIF":
        stored.info["icc_profile"] = profile
        data = heic(stored, quality=95)
    else:
        data = encoded(stored, kind, icc_profile=profile)
    # sRGB's red, as Display P3 writes it
    assert mean_difference(decode(data, LIMITS, target=80), Image.new("RGB", SIZE, "red")) < 5


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        icc_profile(SRGB),
        b"damaged",
        icc_profile(DISPLAY_P3)[:200],
        icc_profile(DISPLAY_P3).replace(b"RGB ", b"CMYK"),
    ],
)
def test_profile_that_changes_nothing_or_is_damaged_leaves_the_pixels(profile: bytes) -> None:
    data = encoded(picture(1, SIZE), "PNG", icc_profile=profile)
    plain = decode(png(1, SIZE), LIMITS, target=80)
    assert np.array_equal(decode(data, LIMITS, target=80), plain)
