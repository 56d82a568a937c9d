"""Content decides the format; each format with what is peculiar to it."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from tests.pictures import dng, encoded, heic, jpeg, mean_difference, picture, png

from futu.errors import (
    FutuError,
    ImageTooLargeError,
    UndecodableImageError,
    UnsupportedImageError,
    VectorImageError,
)
from futu.images.decode import DecodeLimits, decode, inspect
from futu.images.formats import EXTENSIONS, sniff

LIMITS = DecodeLimits()
SIZE = (120, 80)


def box(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


FILES = {
    "JPEG": jpeg(1, SIZE),
    "PNG": png(1, SIZE),
    "GIF": encoded(picture(1, SIZE), "GIF"),
    "BMP": encoded(picture(1, SIZE), "BMP"),
    "DIB": encoded(picture(1, SIZE), "DIB"),
    "WEBP": encoded(picture(1, SIZE), "WEBP", quality=95),
    "TIFF": encoded(picture(1, SIZE), "TIFF"),
    "AVIF": encoded(picture(1, SIZE), "AVIF", quality=95),
    "HEIF": heic(picture(1, SIZE), quality=95),
    "RAW": dng(picture(1, SIZE)),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["a.HEIC", "a.jpg", "a"])
def test_content_decides_whatever_the_name_says(kind: str, name: str) -> None:
    data = FILES[kind]
    assert sniff(data) == kind
    info = inspect(data, LIMITS, name)
    assert (info.format, info.width, info.height) == (kind, *SIZE)
    if kind != "RAW":  # has colours of its own
        found = decode(data, LIMITS, target=80, name=name)
        assert mean_difference(found, picture(1, SIZE)) < 8


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"IIRO\x08\0\0\0", "RAW"),
        (b"IIU\0\x18\0\0\0", "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"FOVb\0\0\3\0", "RAW"),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (box(b"ftyp", b"crx \0\0\0\1crx isom"), "RAW"),
        (box(b"ftyp", b"mif1\0\0\0\0mif1heic"), "HEIF"),
        (box(b"ftyp", b"mif1\0\0\0\0mif1avifmiaf"), "AVIF"),
        (box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41"), ""),
        (b"\xef\xbb\xbf <?xml version='1.0'?>\n<!-- a --><svg/>", "SVG"),
        (b"II*\0\x08\0\0\0", "TIFF"),  # cut off before its directory
        (b"", ""),
    ],
)
def test_signatures(data: bytes, kind: str) -> None:
    assert sniff(data) == kind


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", VectorImageError, "export it as PNG"),
        (b"%PDF-1.7\n", UnsupportedImageError, "application/pdf"),
        (b"8BPS\0\1" + bytes(20), UnsupportedImageError, "photoshop.*Export it as PNG"),
        (box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41"), UnsupportedImageError, "video/mp4"),
        (b"PK\3\4" + bytes(40), UnsupportedImageError, "application/zip"),
        (b"BMW drivers and more", UnsupportedImageError, "not a picture"),
        (bytes(500), UnsupportedImageError, "not a picture"),
        (b"", UnsupportedImageError, "empty"),
    ],
)
def test_what_is_no_picture_says_what_it_is(
    data: bytes, error: type[FutuError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        inspect(data, LIMITS, "mine.jpg")
    assert caught.type is error
    assert "mine.jpg" in caught.value.message


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_format_is_turned_upright_once(kind: str, orientation: int) -> None:
    image, exif = picture(3, SIZE), Image.Exif()
    exif[0x0112] = orientation
    if kind == "HEIF":
        data = heic(image, quality=95, exif=exif.tobytes())
    elif kind == "MPO":
        data = encoded(image, kind, exif=exif, save_all=True, append_images=[picture(9, SIZE)])
    elif kind in ("WEBP", "AVIF"):
        data = encoded(image, kind, exif=exif, quality=95)
    else:
        data = encoded(image, kind, exif=exif)
    image.getexif()[0x0112] = orientation
    wanted = ImageOps.exif_transpose(image)
    info = inspect(data, LIMITS)
    assert (info.width, info.height) == wanted.size
    assert mean_difference(decode(data, LIMITS, target=200), wanted) < 8
    x, y, w, h = 10, 20, 40, 30
    part = decode(data, LIMITS, target=200, crop=(x, y, w, h))
    assert mean_difference(part, wanted.crop((x, y, x + w, y + h))) < 12


@pytest.mark.parametrize("kind", sorted(FILES))
def test_truncated_file_is_an_error_and_not_half_a_picture(kind: str) -> None:
    data = FILES[kind] if kind != "RAW" else dng(picture(1, (400, 300)))
    for part in (0.3, 0.6, 0.9):
        with pytest.raises((UndecodableImageError, UnsupportedImageError), match=r"cut\.x"):
            decode(data[: int(len(data) * part)], LIMITS, target=224, name="cut.x")


@pytest.mark.parametrize("kind", sorted(FILES))
def test_pixel_limit_is_checked_from_the_header(kind: str) -> None:
    # only the first part: enough for a header, not for the pixels
    small = DecodeLimits(max_pixels=SIZE[0] * SIZE[1] - 1)
    with pytest.raises(ImageTooLargeError, match="120 x 80"):
        inspect(FILES[kind], small, "x")


@pytest.mark.parametrize("kind", [k for k in FILES if k not in ("HEIF", "RAW")])
def test_reading_the_header_decodes_no_pixel(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loaded.append(image))
    inspect(FILES[kind], LIMITS)
    assert loaded == []


def test_orientation_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(3, SIZE), "PNG", exif=exif)
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    end = len(data) - 12
    moved = data[:at] + data[at + len(chunk) : end] + chunk + data[end:]
    wanted = picture(3, SIZE).rotate(-90, expand=True)
    info = inspect(moved, LIMITS)
    assert (info.width, info.height) == wanted.size
    assert np.array_equal(decode(moved, LIMITS, target=80), np.asarray(wanted))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "PNG"])
def test_first_frame_of_every_animation(kind: str) -> None:
    frames = [Image.new("RGB", SIZE, c) for c in ((250, 10, 10), (10, 250, 10), (10, 10, 250))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert mean_difference(decode(data, LIMITS, target=80), frames[0]) < 6


def test_tiff_of_a_thousand_pages_is_its_first() -> None:
    pages = [Image.new("L", (8, 8), 200)] * 1000
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert (decode(data, LIMITS, target=8) == 200).all()


def test_jpeg_with_rubbish_behind_it_is_read() -> None:
    data = FILES["JPEG"]
    assert np.array_equal(
        decode(data + b"\0rubbish" * 999, LIMITS, target=80), decode(data, LIMITS, target=80)
    )


def test_jpeg_that_only_pillow_reads_is_decoded_small_too() -> None:
    small = picture(5, (100, 80))
    data = encoded(small.resize((1600, 1280)).convert("CMYK"), "JPEG", quality=95)
    found = decode(data, LIMITS, target=90)
    assert found.shape[:2] == (160, 200)
    assert mean_difference(found, np.asarray(small.resize((200, 160)))) < 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_ramp_keeps_all_its_shades(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
    found = decode(encoded(Image.fromarray(ramp), kind), LIMITS, target=224)
    assert np.abs(found[..., 0].astype(int) - ramp // 257).max() <= 1


def test_numbers_that_are_none_in_a_float_picture_do_no_harm() -> None:
    ramp = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    ramp[0, :3] = np.nan, np.inf, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(encoded(Image.fromarray(ramp), "TIFF"), LIMITS, target=40)
    assert found[0, :3, 0].tolist() == [0, 255, 0]
    assert found[39, 39, 0] == 255
    assert 120 <= found[20, 0, 0] <= 135


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16", "F", "1"])
def test_big_pictures_of_every_mode_are_reduced_as_if_whole(mode: str) -> None:
    image = picture(7, (900, 1400))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        image.putalpha(picture(8, image.size).convert("L"))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    whole = decode(encoded(image, "TIFF", compression="tiff_lzw"), LIMITS, target=1400)
    assert whole.shape == (1400, 900, 3)
    found = decode(encoded(image, "TIFF", compression="tiff_lzw"), LIMITS, target=100)
    assert found.shape == (200, 225, 3)
    wanted = Image.fromarray(whole).reduce((4, 7))
    assert mean_difference(found, wanted) <= 0.5


def test_extensions_are_lower_case_and_begin_with_a_dot() -> None:
    assert all(e == e.lower() and e[0] == "." and Path("a" + e).suffix == e for e in EXTENSIONS)


@pytest.mark.parametrize(
    ("kind", "size"),
    [(kind, (20_000, 10)) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "AVIF")]
    + [("WEBP", (16_383, 10)), ("HEIF", (8_000, 64))]  # the most of the format, of the encoder
    + [(kind, (1, 1)) for kind in FILES if kind != "RAW"],
)
def test_extreme_shapes_of_every_format(kind: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 40, 90))
    data = heic(image) if kind == "HEIF" else encoded(image, kind)
    found = decode(data, LIMITS, target=224)
    assert found.shape[0] == size[1]
    assert min(size[0], 224) <= found.shape[1] <= size[0]
    assert np.abs(found.astype(int) - (200, 40, 90)).mean() < 6


@pytest.mark.parametrize("width", [b"\0\0\0\0", b"\xff\xff\xff\0", b"\x80\0\0\0"])
def test_impossible_size_in_a_header_is_a_damaged_file(width: bytes) -> None:
    data = FILES["HEIF"]
    at = data.index(b"ispe") + 8
    with pytest.raises(UndecodableImageError):
        decode(data[:at] + width + data[at + 4 :], LIMITS, target=80)
