"""Camera raw files, by LibRaw (package rawpy, the extra ``futu[raw]``)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from futu.errors import NoDecoderError
from futu.images.pixels import TURNED_SIDEWAYS

if TYPE_CHECKING:
    import rawpy

_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip as EXIF orientation
_ASPECT_TOLERANCE = 0.03


def open_raw(data: bytes, name: str) -> rawpy.RawPy:
    """Read the header.

    Raises:
        NoDecoderError: rawpy is not installed.
        rawpy.LibRawError: LibRaw cannot read it.
    """
    try:
        import rawpy
    except ImportError:
        raise NoDecoderError(
            f"{name} is a camera raw file, which needs the package rawpy on each compute server "
            "and the controller: pip install rawpy (or futu[raw]). Then index again.",
            file=name,
        ) from None
    return rawpy.imread(io.BytesIO(data))


def size(raw: rawpy.RawPy) -> tuple[int, int]:
    """Width and height as the sensor has them."""
    return raw.sizes.width, raw.sizes.height


def orientation(raw: rawpy.RawPy) -> int:
    """How the sensor was held, as EXIF orientation."""
    return _ORIENTATIONS.get(raw.sizes.flip, 1)


def read(raw: rawpy.RawPy, sides: tuple[int, int]) -> tuple[bytes | npt.NDArray[np.uint8], int]:
    """The smallest version that has so many pixels.

    The camera's own preview if it is big enough and shows the same part, else the sensor's
    samples developed at half size (each 2 x 2 block of the colour filter makes one pixel; no
    interpolation), else at full size.

    Args:
        raw: opened.
        sides: the least width and height wanted, as the sensor has them.

    Returns:
        A JPEG file or samples of shape (height, width, 3), and the EXIF orientation it needs.
    """
    preview = _preview(raw, sides)
    if preview is not None:
        return preview
    width, height = size(raw)
    turn = orientation(raw)  # before user_flip overwrites it
    half = width // 2 >= sides[0] and height // 2 >= sides[1]
    developed = raw.postprocess(half_size=half, use_camera_wb=True, output_bps=8, user_flip=0)
    return developed, turn


def _preview(
    raw: rawpy.RawPy, sides: tuple[int, int]
) -> tuple[bytes | npt.NDArray[np.uint8], int] | None:
    import rawpy

    try:
        data = raw.extract_thumb().data
        if isinstance(data, bytes):
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                shown = image.size
        else:
            shown = (data.shape[1], data.shape[0])
    except (rawpy.LibRawError, NotImplementedError, OSError, SyntaxError):
        return None  # none, or in a form of its own
    width, height = size(raw)
    turn = orientation(raw)
    if turn in TURNED_SIDEWAYS and (shown[0] > shown[1]) != (width > height):
        # this camera stores its preview upright
        turn, width, height, sides = 1, height, width, (sides[1], sides[0])
    aspect = shown[0] * height / (shown[1] * width)
    fits = sides[0] <= shown[0] <= width * 1.05 and sides[1] <= shown[1] <= height * 1.05
    return (data, turn) if fits and abs(aspect - 1) <= _ASPECT_TOLERANCE else None
