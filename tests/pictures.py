"""Small pictures, made on the spot; the same seed gives the same bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw


def picture(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Shapes in colours, different enough for each seed to be told apart by a model."""
    random = np.random.default_rng(seed)
    width, height = size

    def colour() -> tuple[int, int, int]:
        red, green, blue = random.integers(0, 256, 3).tolist()
        return red, green, blue

    image = Image.new("RGB", size, colour())
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x0, x1 = sorted(random.integers(0, width, 2).tolist())
        y0, y1 = sorted(random.integers(0, height, 2).tolist())
        shape = (draw.ellipse, draw.rectangle)[int(random.integers(2))]
        shape((x0, y0, x1 + 4, y1 + 4), fill=colour())
    return image


def jpeg(seed: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG file."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def png(seed: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A PNG file."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "PNG")
    return buffer.getvalue()
