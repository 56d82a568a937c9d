"""What people do to a picture before it turns up again, to see whether its copies are found.

Each takes an RGB picture, a source of chance and another picture, and gives an RGB picture.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

WORDS = ("when", "the", "new", "one", "finally", "fits", "nobody", "asks", "how", "much", "today")

Draw = random.Random
Make = Callable[[Image.Image, Draw, Image.Image], Image.Image]


@dataclass(frozen=True)
class Edit:
    """A way to edit.

    Attributes:
        name: for people.
        make: from an RGB picture, a source of chance and a picture of others, an RGB picture.
        quality: of the JPEG it is stored as.
    """

    name: str
    make: Make
    quality: int = 90


def edited(edit: Edit, picture: Image.Image, host: Image.Image, seed: str) -> bytes:
    """The edited picture as a JPEG; the same for the same seed."""
    chance = random.Random(f"{seed} {edit.name}")  # noqa: S311 - no secret
    result = edit.make(picture, chance, host)
    buffer = io.BytesIO()
    result.save(buffer, "JPEG", quality=edit.quality)
    return buffer.getvalue()


def crop(share: float) -> Make:
    """Keep this share of the area, anywhere, the aspect ratio kept."""

    def make(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
        width, height = (round(side * math.sqrt(share)) for side in picture.size)
        left = chance.randint(0, picture.width - width)
        top = chance.randint(0, picture.height - height)
        return picture.crop((left, top, left + width, top + height))

    return make


def turned(how: Image.Transpose) -> Make:
    """Mirrored, or by a quarter or half turn."""
    return lambda picture, *_: picture.transpose(how)


def rotated(*, whole: bool) -> Make:
    """By 25 degrees, black around it: the whole picture, or what the canvas has room for."""
    return lambda picture, *_: picture.rotate(25, Image.Resampling.BICUBIC, expand=whole)


def blurred(picture: Image.Image, *_: object) -> Image.Image:
    """A little, whatever its size."""
    return picture.filter(ImageFilter.GaussianBlur(min(picture.size) / 130))


def unchanged(picture: Image.Image, *_: object) -> Image.Image:
    """As it is."""
    return picture


def captioned(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """Bars above and below, each 15 % of the height, with text; white on black or the reverse."""
    bar = round(0.15 * picture.height)
    paper, ink = chance.choice([("black", "white"), ("white", "black")])
    result = Image.new("RGB", (picture.width, picture.height + 2 * bar), paper)
    result.paste(picture, (0, bar))
    pen = ImageDraw.Draw(result)
    for top in (0, picture.height + bar):
        middle = (result.width / 2, top + bar / 2)
        pen.text(middle, sentence(chance), ink, font(picture, 0.07), anchor="mm")
    return result


def recoloured(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """Hue turned by 15 to 45 degrees, saturation x 0.5 or x 1.8."""
    shift = round(chance.uniform(15, 45) * chance.choice((-1, 1)) * 256 / 360)
    hue, saturation, value = picture.convert("HSV").split()
    hue = Image.fromarray((np.asarray(hue).astype(np.int16) + shift).astype(np.uint8))
    result = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return ImageEnhance.Color(result).enhance(chance.choice((0.5, 1.8)))


def grey(picture: Image.Image, *_: object) -> Image.Image:
    """Without colour."""
    return picture.convert("L").convert("RGB")


def squared(picture: Image.Image, *_: object) -> Image.Image:
    """To a square, the aspect ratio not kept."""
    return picture.resize((min(picture.size),) * 2, Image.Resampling.BICUBIC)


def sentence(chance: Draw) -> str:
    """Some words."""
    return " ".join(chance.sample(WORDS, 4))


def font(picture: Image.Image, share: float) -> ImageFont.FreeTypeFont:
    """Pillow's own, of a size that is this share of the shorter side."""
    font = ImageFont.load_default(share * min(picture.size))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType")
    return font


COMMON = (
    Edit("crop to 90 %", crop(0.9)),
    Edit("crop to 70 %", crop(0.7)),
    Edit("crop to 50 %", crop(0.5)),
    Edit("mirrored", turned(Image.Transpose.FLIP_LEFT_RIGHT)),
    Edit("upside down", turned(Image.Transpose.FLIP_TOP_BOTTOM)),
    Edit("rotated by 25", rotated(whole=True)),
    Edit("rotated by 90", turned(Image.Transpose.ROTATE_90)),
    Edit("blurred", blurred),
    Edit("JPEG of quality 30", unchanged, 30),
    Edit("caption bars", captioned),
    Edit("recoloured", recoloured),
    Edit("grey", grey),
    Edit("made square", squared),
)
"""Edits whose copies a search is expected to find."""
