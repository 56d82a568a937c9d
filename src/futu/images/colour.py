"""Colour profiles: pixels of another RGB space (Display P3, Adobe RGB) to sRGB."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from futu.images.pixels import Pixels

_LARGEST_PROFILE = 256 * 1024
_SAME = 8  # steps of 255: what a plain gamma of 2.2 differs from the curve of sRGB


def to_srgb(pixels: Pixels, profile: bytes | None) -> Pixels:
    """Pixels as sRGB.

    Nothing is done without a profile, with one that is as good as sRGB, is damaged, is not
    for RGB, or has more than 256 kB (some of scanners and printers).

    Args:
        pixels: uint8, shape (height, width, 3).
        profile: ICC.
    """
    if not profile or len(profile) > _LARGEST_PROFILE:
        return pixels
    transform = _transform(profile)
    if transform is None:
        return pixels
    return _apply(pixels, transform)


def _apply(pixels: Pixels, transform: ImageCms.ImageCmsTransform) -> Pixels:
    image = Image.fromarray(pixels)
    ImageCms.applyTransform(image, transform, inPlace=True)
    return np.asarray(image)


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """The way to sRGB; None when there is none or nothing would change."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            "RGB",
            "RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(9, 81, 3)
    difference = np.abs(_apply(cube, transform).astype(np.int16) - cube)
    return transform if difference.max() > _SAME else None
