"""Decoded samples of any kind to 8-bit RGB, made smaller on the way.

A big picture is gone through in strips, so that beside the samples the codec delivered there
are never more than a strip and the small result in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from futu.images.info import Box

Pixels = npt.NDArray[np.uint8]
"""Shape (height, width, 3), RGB."""


_STRIP_PIXELS = 1 << 18
_TURNS = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}  # quarter turns, counter-clockwise
_MIRRORED = (2, 4, 5, 7)

TURNED_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def to_pixels(
    image: Image.Image | npt.NDArray[np.uint8], box: Box, factors: tuple[int, int]
) -> Pixels:
    """Part of a decoded picture as RGB, each axis reduced by a whole factor (means of blocks).

    Transparency is laid on white, 16-bit samples keep their brightness, 32-bit ones are
    stretched from the least to the greatest of the whole picture.

    Args:
        image: loaded; or samples of shape (height, width, 3 or 4).
        box: the part, in pixels of ``image`` as it is stored.
        factors: horizontal and vertical.
    """
    x, y, width, height = box
    across, down = factors
    if not isinstance(image, Image.Image) and image.shape[2] == 3 and factors == (1, 1):
        return image[y : y + height, x : x + width]
    convert = _converter(image)
    rows = max(1, _STRIP_PIXELS // max(1, width) // down) * down
    result = np.empty((-(-height // down), -(-width // across), 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        if isinstance(image, Image.Image):
            strip = image.crop((x, y + top, x + width, y + bottom))
        else:
            strip = Image.fromarray(image[y + top : y + bottom, x : x + width])
        strip = convert(strip)
        if factors != (1, 1):
            strip = strip.reduce(factors)
        result[top // down : top // down + strip.height] = np.asarray(strip)
    return result


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror as EXIF says, so that the picture is as its user sees it."""
    if orientation in _TURNS:
        pixels = np.rot90(pixels, _TURNS[orientation])
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def stored_box(box: Box, orientation: int, width: int, height: int) -> Box:
    """Where a part of the upright picture lies in the stored one.

    Args:
        box: in the upright picture.
        orientation: EXIF's, of the stored picture.
        width: of the upright picture.
        height: of the upright picture.
    """
    x, y, w, h = box
    if orientation in _MIRRORED:
        x = width - x - w
    for _ in range(_TURNS.get(orientation, 0)):
        # undo a quarter turn counter-clockwise
        x, y, w, h, width, height = height - y - h, x, h, w, height, width
    return x, y, w, h


def _converter(
    image: Image.Image | npt.NDArray[np.uint8],
) -> Callable[[Image.Image], Image.Image]:
    if not isinstance(image, Image.Image):
        return _on_white if image.shape[2] == 4 else _plain
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _on_white
    return _plain


def _plain(strip: Image.Image) -> Image.Image:
    return strip.convert("RGB")


def _on_white(strip: Image.Image) -> Image.Image:
    if strip.mode == "La":
        strip = strip.convert("LA")
    rgba = strip.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    return white.convert("RGB")


def _from_sixteen_bits(strip: Image.Image) -> Image.Image:
    samples = np.asarray(strip)
    return Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")


def _stretched(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    low, high = np.inf, -np.inf
    rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        values = np.asarray(part, np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        low, high = 0.0, 1.0  # nothing in it is a number
    if image.mode == "I" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0  # 16-bit pictures that Pillow widens to 32-bit integers
    scale = 255 / ((high - low) or 1.0)

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip, np.float64)
        values = np.nan_to_num((values - low) * scale, nan=0.0, posinf=255.0, neginf=0.0)
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")

    return convert
