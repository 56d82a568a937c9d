"""Bytes to RGB pixels, within limits, the way the user saw the picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from futu.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    NoDecoderError,
    UndecodableImageError,
    UnsupportedImageError,
)
from futu.images import codecs
from futu.images import raw as camera
from futu.images.colour import to_srgb
from futu.images.formats import refuse, sniff
from futu.images.info import REDUCING_GAP, Box, ImageInfo, Size, image_info, least_sides
from futu.images.pixels import TURNED_SIDEWAYS, Pixels, stored_box, to_pixels, upright


@dataclass(frozen=True)
class DecodeLimits:
    """Checked before any pixel is decoded.

    Attributes:
        max_bytes: size of the encoded file.
        max_pixels: width x height according to the header.
    """

    max_bytes: int = 100 * 1024 * 1024
    max_pixels: int = 200_000_000


class Picture:
    """A picture whose header was read and found within the limits.

    Attributes:
        info: what the header says.

    Raises:
        UnsupportedImageError: not a picture we read.
        UndecodableImageError: its header is damaged.
        ImageTooLargeError: over a limit.
    """

    def __init__(self, data: bytes, limits: DecodeLimits, name: str = "the image") -> None:
        if not data:
            raise UnsupportedImageError(f"{name} is empty (0 bytes).", file=name)
        if len(data) > limits.max_bytes:
            raise too_many_bytes(name, len(data), limits)
        self._data = data
        self._name = name
        self._opened: Any = None
        self._orientation = 1
        try:
            kind, self._size = self._open(sniff(data))
        except UnidentifiedImageError:
            raise refuse(data, name) from None
        except (NoDecoderError, MemoryError):
            raise
        except Exception as error:
            # Format plugins let SyntaxError, struct.error, EOFError and others through when a
            # header is damaged.
            raise _undecodable(name, error) from error
        width, height = self._size
        if width <= 0 or height <= 0:
            raise _undecodable(name, ValueError(f"it is {width} x {height} pixels"))
        if width * height > limits.max_pixels:
            raise ImageTooLargeError(
                f"{name} has {width} x {height} = {width * height:,} pixels; the limit is "
                f"{limits.max_pixels:,}. Make it smaller or raise FUTU_MAX_IMAGE_PIXELS.",
                file=name,
                pixels=width * height,
                limit=limits.max_pixels,
            )
        if self._orientation in TURNED_SIDEWAYS:
            width, height = height, width
        self.info = image_info(kind, (width, height), self._opened)

    @property
    def frames(self) -> int:
        """How many pictures the file has to show; to be asked before ``decode``.

        What cameras put beside a JPEG, such as a preview, does not count.
        """
        if self.info.format in ("JPEG", "MPO", "RAW"):
            return 1
        try:
            return int(getattr(self._opened, "n_frames", 1))
        except Exception as error:
            raise _undecodable(self._name, error) from error

    def _open(self, kind: str) -> tuple[str, Size]:
        codecs.prepare()
        if kind in ("", "SVG"):
            raise UnidentifiedImageError
        if kind == "RAW":
            self._opened = camera.open_raw(self._data, self._name)
            self._orientation = camera.orientation(self._opened)
            return kind, camera.size(self._opened)
        if kind == "HEIF":
            self._opened = codecs.open_heif(self._data)
            return kind, self._opened.size
        self._opened = Image.open(io.BytesIO(self._data), formats=(kind,))
        if kind != "TIFF":  # Pillow turns those itself
            self._orientation = codecs.exif_orientation(self._opened, self._data)
        return str(self._opened.format), self._opened.size

    def decode(self, target: int, crop: Box | None = None) -> Pixels:
        """Decode to upright RGB; once.

        Args:
            target: the side, in pixels, of the largest input the result will be resized to.
            crop: part to keep, in pixels of the upright full-size picture.

        Returns:
            uint8, shape (height, width, 3). Each side has at least ``target`` pixels if the
            picture (or the crop) has so many.

        Raises:
            UndecodableImageError: damaged or cut short.
            InvalidRequestError: the crop is not inside the picture.
        """
        if crop is None:
            crop = (0, 0, self.info.width, self.info.height)
        check_crop(crop, self.info)
        try:
            return self._decode(crop, target)
        except MemoryError:
            raise
        except Exception as error:
            # As above: what a damaged file raises depends on the codec.
            raise _undecodable(self._name, error) from error

    def _decode(self, crop: Box, target: int) -> Pixels:
        turn = self._orientation
        full = (self.info.width, self.info.height)
        box = stored_box(crop, turn, *full)
        least = least_sides(self._size, box, target)
        opened, self._opened = self._opened, None
        profile = None if self.info.format == "RAW" else opened.info.get("icc_profile")
        if self.info.scales:
            samples = codecs.read_jpeg(self._data, least, opened)
        elif self.info.format == "HEIF":
            samples = codecs.read_heif(opened)
        elif self.info.format == "RAW":
            samples, turn = camera.read(opened, least)
            if isinstance(samples, bytes):
                preview = Image.open(io.BytesIO(samples), formats=("JPEG",))
                profile = preview.info.get("icc_profile")
                samples = codecs.read_jpeg(
                    samples, least if turn == self._orientation else least[::-1], preview
                )
            box = stored_box(crop, turn, *full)
        else:
            opened.load()
            samples = opened
        del opened
        stored = full[::-1] if turn in TURNED_SIDEWAYS else full
        box = _scaled(box, stored, _size_of(samples))
        factors = (
            max(1, box[2] // (REDUCING_GAP * target)),
            max(1, box[3] // (REDUCING_GAP * target)),
        )
        if self.info.scales:
            factors = (1, 1)  # small by now
        return upright(to_srgb(to_pixels(samples, box, factors), profile), turn)


def inspect(data: bytes, limits: DecodeLimits, name: str = "the image") -> ImageInfo:
    """Read the header only.

    Raises:
        UnsupportedImageError, UndecodableImageError, ImageTooLargeError.
    """
    return Picture(data, limits, name).info


def decode(
    data: bytes,
    limits: DecodeLimits,
    *,
    target: int,
    crop: Box | None = None,
    name: str = "the image",
) -> Pixels:
    """Decode to upright RGB pixels, as small as serves ``target``.

    EXIF orientation is applied, the first frame of an animation taken, transparency laid on
    white, CMYK, palettes, 16-bit and float samples brought to 8-bit RGB, other RGB spaces to
    sRGB. JPEGs are decoded at
    the smallest of the codec's reduced scales (1/2, 1/4, 1/8) that still has ``target`` pixels
    on both sides, which is most of the speed on camera pictures. What is still more than
    twice too large is reduced by means of blocks, so one result serves several models.

    Args:
        data: the file's bytes.
        limits: checked before decoding.
        target: the side, in pixels, of the largest input the result will be resized to.
        crop: part to keep, in pixels of the upright full-size picture.
        name: used in messages.

    Returns:
        uint8, shape (height, width, 3).

    Raises:
        UnsupportedImageError: not a picture we read.
        UndecodableImageError: damaged or cut short.
        ImageTooLargeError: over a limit.
        InvalidRequestError: the crop is not inside the picture.
    """
    return Picture(data, limits, name).decode(target, crop)


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


def too_many_bytes(name: str, size: int, limits: DecodeLimits) -> ImageTooLargeError:
    """The error for a file above ``limits.max_bytes``."""
    return ImageTooLargeError(
        f"{name} has {size:,} bytes; the limit is {limits.max_bytes:,}. "
        "Make it smaller or raise FUTU_MAX_IMAGE_BYTES.",
        file=name,
        bytes=size,
        limit=limits.max_bytes,
    )


def _size_of(samples: Any) -> Size:
    if isinstance(samples, Image.Image):
        return samples.size
    return samples.shape[1], samples.shape[0]


def _scaled(box: Box, size: Size, delivered: Size) -> Box:
    """A part of the full-size picture in the one that was delivered; at least a pixel of it."""
    x, y, width, height = box
    across, down = delivered[0] / size[0], delivered[1] / size[1]
    left, top = round(x * across), round(y * down)
    right, bottom = round((x + width) * across), round((y + height) * down)
    left, top = min(left, delivered[0] - 1), min(top, delivered[1] - 1)
    return left, top, max(right - left, 1), max(bottom - top, 1)


def _undecodable(name: str, error: Exception) -> UndecodableImageError:
    return UndecodableImageError(
        f"{name} cannot be decoded ({error}); the file is damaged or incomplete.", file=name
    )
