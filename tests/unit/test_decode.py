"""Bytes to upright RGB, within limits."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tests.pictures import encoded, jpeg, picture, png

from futu.errors import (
    FutuError,
    ImageTooLargeError,
    InvalidRequestError,
    UndecodableImageError,
    UnsupportedImageError,
)
from futu.images.decode import DecodeLimits, decode, inspect
from futu.images.info import ImageInfo

LIMITS = DecodeLimits()


def colour_of(data: bytes) -> tuple[int, ...]:
    pixels = decode(data, LIMITS, target=224)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return tuple(int(v) for v in pixels[pixels.shape[0] // 2, pixels.shape[1] // 2])


def near(found: tuple[int, ...], wanted: tuple[int, ...], most: int = 3) -> bool:
    return max(abs(a - b) for a, b in zip(found, wanted)) <= most


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_every_format_gives_the_picture(kind: str) -> None:
    data = encoded(Image.new("RGB", (64, 48), (200, 40, 90)), kind)
    assert near(colour_of(data), (200, 40, 90), 8)
    info = inspect(data, LIMITS)
    assert (info.width, info.height) == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_become_rgb(mode: str) -> None:
    image = Image.new("RGB", (40, 40), (255, 255, 255)).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert near(colour_of(encoded(image, kind)), (255, 255, 255))


def test_cmyk_jpeg_is_not_inverted() -> None:
    data = encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG")
    assert near(colour_of(data), (255, 0, 0), 6)


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = np.full((40, 40), 0x8080, np.uint16)
    for kind in ("PNG", "TIFF"):
        assert near(colour_of(encoded(Image.fromarray(grey), kind)), (128, 128, 128), 1)


def test_float_samples_are_stretched() -> None:
    ramp = np.linspace(-5, 5, 1600, dtype=np.float32).reshape(40, 40)
    pixels = decode(encoded(Image.fromarray(ramp), "TIFF"), LIMITS, target=224)
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    if mode == "P":
        palette = Image.new("P", (40, 40), 0)
        palette.putpalette([0, 0, 0, 9, 9, 9])
        data = encoded(palette, "PNG", transparency=0)
    else:
        data = encoded(image.convert(mode), "PNG")
    assert colour_of(data) == (255, 255, 255)


def test_half_transparent_red_is_pink() -> None:
    data = encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 128)), "PNG")
    assert near(colour_of(data), (255, 127, 127))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_first_frame_of_an_animation_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), c) for c in ((250, 10, 10), (10, 250, 10))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert near(colour_of(data), (250, 10, 10), 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_gives_the_upright_picture(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(3, (120, 80)), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        wanted = ImageOps.exif_transpose(stored).convert("RGB")
    found = decode(data, LIMITS, target=400)
    assert np.array_equal(found, np.asarray(wanted))
    info = inspect(data, LIMITS)
    assert (info.width, info.height) == wanted.size


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(0, 40), st.integers(1, 40), st.integers(1, 30))
def test_crop_is_the_part_of_the_upright_picture(x: int, y: int, w: int, h: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    upright = picture(4, (100, 70))
    data = encoded(upright.transpose(Image.Transpose.ROTATE_270), "PNG", exif=exif)
    found = decode(data, LIMITS, target=224, crop=(x, y, w, h))
    assert np.array_equal(found, np.asarray(upright.crop((x, y, x + w, y + h))))


@pytest.mark.parametrize(
    "crop", [(0, 0, 101, 70), (90, 0, 11, 5), (-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 5, -1)]
)
def test_crop_outside_the_picture_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidRequestError, match="100 x 70"):
        decode(png(4, (100, 70)), LIMITS, target=224, crop=crop)


def test_big_jpeg_is_decoded_small_and_looks_the_same() -> None:
    small = picture(5, (300, 200))
    data = encoded(small.resize((2400, 1600), Image.Resampling.BICUBIC), "JPEG", quality=95)
    found = decode(data, LIMITS, target=224)
    assert 224 <= min(found.shape[:2]) < 1600
    a = np.asarray(Image.fromarray(found).resize((224, 224)), np.int16)
    b = np.asarray(small.resize((224, 224)), np.int16)
    assert np.abs(a - b).mean() < 6
    part = decode(data, LIMITS, target=224, crop=(0, 0, 300, 300))
    assert min(part.shape[:2]) >= 224


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", UnsupportedImageError),
        (b"just a text, named .jpg", UnsupportedImageError),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedImageError),
        (b"%PDF-1.7", UnsupportedImageError),
        (jpeg(1)[:1500], UndecodableImageError),
        (png(1)[:1500], UndecodableImageError),
    ],
)
def test_what_is_no_picture_names_itself(data: bytes, error: type[FutuError]) -> None:
    with pytest.raises(error, match=r"mine\.jpg"):
        decode(data, LIMITS, target=224, name="mine.jpg")


def test_limits_are_checked_before_decoding() -> None:
    few = DecodeLimits(max_bytes=1000)
    with pytest.raises(ImageTooLargeError, match="FUTU_MAX_IMAGE_BYTES"):
        decode(jpeg(1), few, target=224)
    small = DecodeLimits(max_pixels=1000)
    with pytest.raises(ImageTooLargeError, match="FUTU_MAX_IMAGE_PIXELS"):
        inspect(jpeg(1), small)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_raise_only_our_errors(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([jpeg(1, (40, 30)), png(1, (40, 30))]))
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FutuError):
        assert decode(bytes(damaged), LIMITS, target=224).shape[2] == 3


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (3, 5000)])
def test_odd_shapes_are_decoded(size: tuple[int, int]) -> None:
    assert inspect(png(2, size), LIMITS) == ImageInfo("PNG", *size)
    height, width = decode(png(2, size), LIMITS, target=224).shape[:2]
    assert width >= min(size[0], 224)
    assert height >= min(size[1], 224)
