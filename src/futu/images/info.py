"""What a picture's header says, and how much memory its decoding will take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Size = tuple[int, int]

Box = tuple[int, int, int, int]
"""A crop: x, y, width, height in pixels of the picture as the user sees it."""

REDUCING_GAP = 2
"""What a codec delivers too large is first brought to no less than this times the target."""

SCALING_MARGIN = 5 / 3
"""What a codec delivers scaled has at least this times the target: its filters are coarse.

Cosine of the feature vector to that of the whole picture, median of 20 camera-like pictures, by
how many times the target the scaled one has: 1.0: 0.992, 1.25: 0.997, 1.67: 0.9985, 2: 0.999.
"""

_JPEG_SCALES = (8, 4, 2, 1)
_OVERHEAD = 5 << 20  # strips, buffers of the codecs, the small result and its copies

# Bytes for each pixel that the codecs hold beside Pillow's own picture, measured by
# benchmarks/decoding_memory.py, with room for more bits and finer chroma than it has.
_CODEC_BYTES = {"WEBP": 12.0, "AVIF": 8.0}
_HEIF_BYTES, _HEIF_ALPHA_BYTES, _RAW_BYTES = 7.0, 9.0, 6.0
_PILLOW_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_ROWS_PER_STRIP, _ORIENTATION = 278, 274


@dataclass(frozen=True)
class ImageInfo:
    """What the header says.

    Attributes:
        format: ``JPEG``, ``PNG``, ``HEIF``, ``RAW``, ...
        width, height: of the upright picture.
        pixel_bytes: bytes that decoding holds at its peak for each pixel the codec delivers.
        whole_bytes: the same for each pixel of the full size, whatever the codec delivers.
        scales: whether the codec can deliver a half, a quarter, an eighth of the size.
    """

    format: str
    width: int
    height: int
    pixel_bytes: float = 4.0
    whole_bytes: float = 0.0
    scales: bool = False


def image_info(kind: str, size: Size, image: Any) -> ImageInfo:
    """The facts of an opened picture.

    Args:
        kind: its format.
        size: upright.
        image: a ``PIL.Image.Image`` of which only the header was read; None for camera raw.
    """
    if kind in ("JPEG", "MPO"):
        return ImageInfo(kind, *size, 4.0, _coefficient_bytes(image), True)
    if kind == "HEIF":
        return ImageInfo(kind, *size, _HEIF_BYTES if image.mode == "RGB" else _HEIF_ALPHA_BYTES)
    if kind == "RAW":
        return ImageInfo(kind, *size, _RAW_BYTES)
    own = float(_PILLOW_BYTES.get(image.mode, 4))
    if kind == "TIFF":
        # one strip is held beside the picture, and a picture that is turned is copied
        strip = min(1.0, image.tag_v2.get(_ROWS_PER_STRIP, 1 << 32) / size[1])
        copies = 1 + strip + (image.tag_v2.get(_ORIENTATION, 1) != 1)
        return ImageInfo(kind, *size, own * copies)
    return ImageInfo(kind, *size, own + _CODEC_BYTES.get(kind, 0.0))


def decode_cost(info: ImageInfo, target: int, crop: Box | None = None) -> int:
    """The most memory that decoding a picture takes, bytes; an estimate, rather too high.

    The encoded file is not counted. A baseline JPEG costs what the scaled picture takes, a
    progressive one its coefficients as well; of all others the full size is decoded.

    Args:
        info: from ``inspect`` or ``Picture.info``.
        target: as for the decoding.
        crop: as for the decoding.
    """
    pixels = info.width * info.height
    delivered = float(pixels)
    if info.scales:
        box = crop or (0, 0, info.width, info.height)
        size = (info.width, info.height)
        delivered /= jpeg_scale(size, least_sides(size, box, target)) ** 2
    return int(delivered * info.pixel_bytes + pixels * info.whole_bytes) + _OVERHEAD


def least_sides(size: Size, box: Box, target: int) -> Size:
    """How large a scaled version of the whole picture must be for a part of it to serve."""
    side = target * SCALING_MARGIN
    return math.ceil(side * size[0] / box[2]), math.ceil(side * size[1] / box[3])


def jpeg_scale(size: Size, least: Size) -> int:
    """The greatest of the codec's divisors that leaves the least sides, or 1."""
    return next((s for s in _JPEG_SCALES if size[0] >= s * least[0] and size[1] >= s * least[1]), 1)


def _coefficient_bytes(image: Any) -> float:
    """A progressive JPEG is held whole as 16-bit coefficients before it is scaled."""
    if not image.info.get("progressive"):
        return 0.0
    sampling = [(h, v) for _, h, v, _ in image.layer] or [(1, 1)]
    most = max(h for h, _ in sampling) * max(v for _, v in sampling)
    return float(2 * sum(h * v for h, v in sampling) / most)
