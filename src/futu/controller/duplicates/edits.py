"""What was done to a copy, told from small versions of two pictures.

Both are brought to grey and compared by normalised cross-correlation (J. P. Lewis, "Fast Normalized
Cross-Correlation", 1995): as wholes in the eight ways to turn and mirror, and one as a part of the
other at several scales.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]
Size = tuple[int, int]

_WHOLE = 32
_PART = 96
_SAME_WHOLE = 0.92
_SAME_PART = 0.88
_LEAST_PART = 16
_STRETCHED = 0.04
_SCALES = tuple(0.92**n for n in range(1, 14))
_COLOURLESS = 6.0
_COLOURED = 12.0

_WAYS: tuple[tuple[bool, int], ...] = tuple((m, r) for m in (False, True) for r in range(4))
"""Mirrored left to right first, then quarter turns counter-clockwise."""


@dataclass(frozen=True)
class Edit:
    """What was done to the keeper's picture to get a member's.

    Attributes:
        mirrored: left and right are exchanged, before it was rotated.
        rotated: degrees clockwise.
        cropped: x, y, width, height of the part of the keeper that it shows, as shares of it.
        extended: the same of the part of it that the keeper shows.
        stretched: its aspect ratio is another one.
        resized: its number of pixels is another one.
        grey: its colours are gone.
        recompressed: nothing but the encoding differs, as far as can be seen.
    """

    mirrored: bool = False
    rotated: int = 0
    cropped: tuple[float, float, float, float] | None = None
    extended: tuple[float, float, float, float] | None = None
    stretched: bool = False
    resized: bool = False
    grey: bool = False
    recompressed: bool = False

    def json(self) -> dict[str, Any]:
        """What there is to say, without what is not so."""
        return {name: value for name, value in asdict(self).items() if value}


def edit_of(keeper: Pixels, member: Pixels, keeper_size: Size, member_size: Size) -> Edit | None:
    """What was done to a picture, or None when it cannot be told.

    Args:
        keeper: its picture, uint8, (height, width, 3), a few hundred pixels long.
        member: that of the copy.
        keeper_size: width and height of the whole picture, pixels.
        member_size: the same of the copy.
    """
    grey = _colour(member) < _COLOURLESS and _colour(keeper) > _COLOURED
    ours, theirs = _grey(keeper), _grey(member)
    whole = _resized(ours, (_WHOLE, _WHOLE))
    alike = [_correlation(whole, _resized(_turned(theirs, way), (_WHOLE, _WHOLE))) for way in _WAYS]
    best = int(np.argmax(alike))
    mirrored, turns = _WAYS[best]
    if alike[best] >= _SAME_WHOLE:
        size = member_size if turns % 2 == 0 else member_size[::-1]
        stretched = abs(np.log(size[0] / size[1] * keeper_size[1] / keeper_size[0])) > _STRETCHED
        plain = not (mirrored or turns or stretched or grey)
        return Edit(
            mirrored=mirrored,
            rotated=90 * turns,
            stretched=bool(stretched),
            resized=size != keeper_size,
            grey=grey,
            recompressed=plain and size == keeper_size,
        )
    return _part(ours, theirs, keeper_size, member_size, grey=grey)


def _part(
    ours: Grey, theirs: Grey, keeper_size: Size, member_size: Size, *, grey: bool
) -> Edit | None:
    """One picture as a part of the other."""
    found: list[tuple[float, Edit]] = []
    for way in _WAYS:
        mirrored, turns = way
        turned = _turned(theirs, way)
        size = member_size if turns % 2 == 0 else member_size[::-1]
        for is_crop in (True, False):
            large, small = (ours, turned) if is_crop else (turned, ours)
            native = size[0] / keeper_size[0] if is_crop else keeper_size[0] / size[0]
            alike, box = _best_place(large, small, native)
            if alike >= _SAME_PART:
                edit = Edit(
                    mirrored=mirrored,
                    rotated=90 * turns,
                    cropped=box if is_crop else None,
                    extended=None if is_crop else box,
                    grey=grey,
                )
                found.append((alike, edit))
        if found and way == _WAYS[0]:
            break
    return max(found, key=lambda f: f[0])[1] if found else None


def _best_place(
    large: Grey, small: Grey, native: float
) -> tuple[float, tuple[float, float, float, float]]:
    """Where a picture is in another: the correlation, and the box as shares of it.

    Args:
        large: in which it is looked for.
        small: what is looked for.
        native: its width as a share of the other's, if it was not resized; tried first.
    """
    scale = _PART / max(large.shape)
    image = _resized(large, (round(large.shape[1] * scale), round(large.shape[0] * scale)))
    aspect = small.shape[0] / small.shape[1]
    best = (-1.0, (0.0, 0.0, 1.0, 1.0))
    for share in (native, *_SCALES):
        width = round(image.shape[1] * share)
        height = round(width * aspect)
        if min(width, height) < _LEAST_PART or height > image.shape[0] or width > image.shape[1]:
            continue
        place = _correlations(image, _resized(small, (width, height)))
        y, x = np.unravel_index(int(np.argmax(place)), place.shape)
        alike = float(place[y, x])
        if alike > best[0]:
            box = (x / image.shape[1], y / image.shape[0])
            sides = (width / image.shape[1], height / image.shape[0])
            best = (alike, tuple(round(float(v), 3) for v in (*box, *sides)))  # type: ignore[assignment]
        if share == native and alike >= (_SAME_PART + 1) / 2:
            break
    return best


def _correlations(image: Grey, part: Grey) -> npt.NDArray[np.float64]:
    """Normalised cross-correlation of a part with the image at each place."""
    height, width = part.shape
    shape = (image.shape[0] + height - 1, image.shape[1] + width - 1)
    centred = part - part.mean()
    spectrum = np.fft.rfft2(image, shape) * np.conj(np.fft.rfft2(centred, shape))
    valid = (slice(0, image.shape[0] - height + 1), slice(0, image.shape[1] - width + 1))
    product = np.fft.irfft2(spectrum, shape)[valid]
    count = height * width
    variance = _sums(image.astype(np.float64) ** 2, height, width)
    variance -= _sums(image.astype(np.float64), height, width) ** 2 / count
    scale = np.sqrt(np.maximum(variance, 1e-6) * max(float((centred**2).sum()), 1e-6))
    flat = variance < count  # a standard deviation below 1 of 255 says nothing
    return np.where(flat, -1.0, product / scale)


def _sums(values: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    """The sum in each window."""
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    down = total[height:] - total[:-height]
    return np.asarray(down[:, width:] - down[:, :-width])


def _correlation(one: Grey, other: Grey) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / max(float(np.sqrt((a**2).sum() * (b**2).sum())), 1e-6))


def _turned(grey: Grey, way: tuple[bool, int]) -> Grey:
    """A member as it was before it was mirrored and rotated clockwise so."""
    mirrored, turns = way
    back = np.rot90(grey, turns)
    return np.ascontiguousarray(back[:, ::-1] if mirrored else back)


def _grey(pixels: Pixels) -> Grey:
    return np.asarray(Image.fromarray(pixels).convert("L"), np.float32)


def _colour(pixels: Pixels) -> float:
    """How far colours are from grey, mean of 0-255."""
    small = np.asarray(Image.fromarray(pixels).resize((_WHOLE, _WHOLE)), np.float32)
    return float((small.max(axis=2) - small.min(axis=2)).mean())


def _resized(grey: Grey, size: Size) -> Grey:
    """To a width and height."""
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX), np.float32)
