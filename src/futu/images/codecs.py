"""The codecs with settings or shortcuts of their own: Pillow's plugins, libheif, libjpeg-turbo."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import simplejpeg
from PIL import AvifImagePlugin, Image, PngImagePlugin

from futu.images.info import Size, jpeg_scale

_ORIENTATION_TAG = 0x0112
_LARGEST_PROFILE = 16 << 20


@functools.cache
def prepare() -> None:
    """Settings that Pillow and its plugins keep for the whole process."""
    # Pillow's own bomb check is a number far below our limit of 200 MP; ours is checked for
    # each picture, before decoding.
    Image.MAX_IMAGE_PIXELS = None
    # A colour profile of more than the default 1 MB is no reason to refuse a PNG.
    PngImagePlugin.MAX_TEXT_CHUNK = _LARGEST_PROFILE
    # Pictures are decoded side by side, so one of them is to take one core.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.init()


def open_heif(data: bytes) -> Any:
    """Read the header of a HEIC file.

    Returns:
        The primary ``pillow_heif.HeifImage``, not decoded yet.
    """
    # Used directly, so nothing is registered with Pillow for the whole process.
    import pillow_heif

    # as in prepare
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
    container = pillow_heif.open_heif(io.BytesIO(data))
    return container[container.primary_index]


def read_heif(opened: Any) -> Any:
    """Decode a HEIC file.

    libheif applies the rotation and mirroring of the container; by the standard (ISO/IEC
    23008-12) EXIF's orientation counts for nothing beside them.

    Returns:
        Samples of shape (height, width, 3 or 4); of an unusual kind a ``PIL.Image.Image``.
    """
    # The codec's own samples where they will do: Pillow would copy them.
    return np.asarray(opened) if opened.mode in ("RGB", "RGBA") else opened.to_pillow()


def read_jpeg(data: bytes, least: Size, opened: Image.Image) -> Any:
    """Decode a JPEG at the smallest scale that leaves the least sides.

    Returns:
        Samples of shape (height, width, 3); of an unusual kind a loaded ``PIL.Image.Image``.
    """
    width, height = opened.size
    scale = jpeg_scale(opened.size, least)
    if opened.mode in ("RGB", "L"):
        try:
            return simplejpeg.decode_jpeg(
                data, "RGB", min_height=-(-height // scale), min_width=-(-width // scale)
            )
        except ValueError:
            pass  # damaged, or odd in a way that Pillow may be able to read
    if scale > 1:
        opened.draft(None, least)
    opened.load()
    return opened


def exif_orientation(image: Image.Image, data: bytes) -> int:
    """The orientation that the header gives, 1 if none; no pixel is decoded.

    Args:
        image: opened by Pillow.
        data: its file.
    """
    try:
        if image.format == "PNG" and "exif" not in image.info:
            # EXIF may stand behind the pixels, and Pillow would decode them to get there.
            late = _png_exif(data)
            if late:
                image.info["exif"] = late
            return int(Image.Image.getexif(image).get(_ORIENTATION_TAG, 1))
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1  # unreadable EXIF says nothing about the pixels


def _png_exif(data: bytes) -> bytes | None:
    at = 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"eXIf":
            return data[at + 8 : at + 8 + size]
        at += 12 + size
    return None
