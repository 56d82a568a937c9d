"""Bytes to an RGB picture, within limits, the way the user saw it."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from futu.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    UndecodableImageError,
    UnsupportedImageError,
)

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "AVIF")
_ORIENTATION_TAG = 0x0112
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)

Box = tuple[int, int, int, int]
"""A crop: x, y, width, height in pixels of the picture as the user sees it."""


@dataclass(frozen=True)
class DecodeLimits:
    """Checked before any pixel is decoded.

    Attributes:
        max_bytes: size of the encoded file.
        max_pixels: width x height according to the header.
    """

    max_bytes: int = 100 * 1024 * 1024
    max_pixels: int = 200_000_000


@dataclass(frozen=True)
class ImageInfo:
    """What the header says; ``width`` and ``height`` are of the upright picture."""

    format: str
    width: int
    height: int


@functools.cache
def _prepare_pillow() -> None:
    # Pillow's own bomb check is a process-wide number far below our limit of 200 MP; ours is
    # checked for each picture, before decoding, in _open.
    Image.MAX_IMAGE_PIXELS = None
    Image.init()


def _open(data: bytes, limits: DecodeLimits, name: str) -> Image.Image:
    _prepare_pillow()
    if not data:
        raise UnsupportedImageError(f"{name} is empty (0 bytes).", file=name)
    if len(data) > limits.max_bytes:
        raise too_many_bytes(name, len(data), limits)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnsupportedImageError(
            f"{name} is not a picture in a format Futu reads (JPEG, PNG, GIF, BMP, WebP, TIFF, "
            "AVIF).",
            file=name,
        ) from None
    except Exception as error:
        # Pillow's format plugins let SyntaxError, struct.error, EOFError and others through
        # when a header is damaged.
        raise _undecodable(name, error) from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"{name} has {width} x {height} = {width * height:,} pixels; the limit is "
            f"{limits.max_pixels:,}. Make it smaller or raise FUTU_MAX_IMAGE_PIXELS.",
            file=name,
            pixels=width * height,
            limit=limits.max_pixels,
        )
    return image


def too_many_bytes(name: str, size: int, limits: DecodeLimits) -> ImageTooLargeError:
    """The error for a file above ``limits.max_bytes``."""
    return ImageTooLargeError(
        f"{name} has {size:,} bytes; the limit is {limits.max_bytes:,}. "
        "Make it smaller or raise FUTU_MAX_IMAGE_BYTES.",
        file=name,
        bytes=size,
        limit=limits.max_bytes,
    )


def _undecodable(name: str, error: Exception) -> UndecodableImageError:
    return UndecodableImageError(
        f"{name} cannot be decoded ({error}); the file is damaged or incomplete.", file=name
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1  # unreadable EXIF says nothing about the pixels


def inspect(data: bytes, limits: DecodeLimits, name: str = "the image") -> ImageInfo:
    """Read the header only.

    Raises:
        UnsupportedImageError, UndecodableImageError, ImageTooLargeError.
    """
    image = _open(data, limits, name)
    width, height = image.size
    if _orientation(image) in _TRANSPOSED_ORIENTATIONS:
        width, height = height, width
    return ImageInfo(str(image.format), width, height)


def check_crop(crop: Box, info: ImageInfo) -> None:
    """Refuse a crop that is not inside the picture.

    Raises:
        InvalidRequestError: naming the crop and the picture's size.
    """
    x, y, width, height = crop
    inside = x >= 0 and y >= 0 and x + width <= info.width and y + height <= info.height
    if width <= 0 or height <= 0 or not inside:
        raise InvalidRequestError(
            f"The crop x={x} y={y} w={width} h={height} is not inside the picture, which is "
            f"{info.width} x {info.height} pixels.",
            crop=list(crop),
            width=info.width,
            height=info.height,
        )


def decode(
    data: bytes,
    limits: DecodeLimits,
    *,
    target: int,
    crop: Box | None = None,
    name: str = "the image",
) -> Image.Image:
    """Decode to an upright RGB picture.

    EXIF orientation is applied, the first frame of an animation taken, transparency laid on
    white, CMYK, palettes, 16-bit and float samples brought to 8-bit RGB. JPEGs are decoded at
    the smallest of the codec's reduced scales that still has ``target`` pixels on both sides
    (Pillow's ``draft``), which is most of the speed on camera pictures.

    Args:
        data: the file's bytes.
        limits: checked before decoding.
        target: the side, in pixels, the caller will resize to.
        crop: part to keep, in pixels of the upright full-size picture.
        name: used in messages.

    Raises:
        UnsupportedImageError: not a picture we read.
        UndecodableImageError: damaged or cut short.
        ImageTooLargeError: over a limit.
        InvalidRequestError: the crop is not inside the picture.
    """
    image = _open(data, limits, name)
    orientation = _orientation(image)
    raw_width, raw_height = image.size
    turned = orientation in _TRANSPOSED_ORIENTATIONS
    width, height = (raw_height, raw_width) if turned else (raw_width, raw_height)
    if crop is not None:
        check_crop(crop, ImageInfo(str(image.format), width, height))
    try:
        if image.format in ("JPEG", "MPO"):
            part = min(crop[2] / width, crop[3] / height) if crop else 1.0
            side = round(target / part)
            image.draft("RGB", (side, side))
        image.load()
        rgb = _to_rgb(image)
        if orientation != 1:
            rgb.getexif()[_ORIENTATION_TAG] = orientation
            rgb = ImageOps.exif_transpose(rgb)
    except Exception as error:
        # As above: what a damaged file raises depends on the codec.
        raise _undecodable(name, error) from error
    if crop is not None:
        x, y, w, h = crop
        fx, fy = rgb.width / width, rgb.height / height
        left, top = round(x * fx), round(y * fy)
        right, bottom = round((x + w) * fx), round((y + h) * fy)
        rgb = rgb.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bit(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_eight_bit(image: Image.Image) -> Image.Image:
    samples = np.asarray(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((samples >> 8).astype(np.uint8))
    values = np.nan_to_num(samples.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if image.mode == "I" and low >= 0 and high <= 65535:
        # 16-bit pictures that Pillow widens to 32-bit integers
        return Image.fromarray((values / 257).astype(np.uint8))
    span = (high - low) or 1.0
    return Image.fromarray(((values - low) / span * 255).astype(np.uint8))
