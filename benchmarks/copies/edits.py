"""What people do to a picture before it turns up again.

LISTED are the edits that the figure to reach is for; FURTHER are others that are met in use.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from benchmarks.copies import makers
from PIL import Image


@dataclass(frozen=True)
class Edit:
    """A way to edit.

    Attributes:
        name: for people.
        make: from an RGB picture, a source of chance and a picture of others, an RGB picture.
        quality: of the JPEG it is stored as.
    """

    name: str
    make: makers.Make
    quality: int = 90


def edited(edit: Edit, picture: Image.Image, host: Image.Image, seed: str) -> bytes:
    """The edited picture as a JPEG; the same for the same seed."""
    result = edit.make(picture, random.Random(f"{seed} {edit.name}"), host)
    buffer = io.BytesIO()
    result.save(buffer, "JPEG", quality=edit.quality)
    return buffer.getvalue()


PICTURE_IN_PICTURE = "picture in picture, 1/2"
LISTED = (
    Edit("crop to 90 %", makers.crop(0.9)),
    Edit("crop to 70 %", makers.crop(0.7)),
    Edit("crop to 50 %", makers.crop(0.5)),
    Edit("mirrored", makers.turned(Image.Transpose.FLIP_LEFT_RIGHT)),
    Edit("upside down", makers.turned(Image.Transpose.FLIP_TOP_BOTTOM)),
    Edit("rotated by 25", makers.rotated(whole=True)),
    Edit("rotated by 90", makers.turned(Image.Transpose.ROTATE_90)),
    Edit("blurred", makers.blurred),
    Edit("JPEG of quality 30", makers.unchanged, 30),
    Edit("caption bars", makers.captioned),
    Edit("recoloured", makers.recoloured),
    Edit("grey", makers.grey),
    Edit("made square", makers.squared),
    Edit(PICTURE_IN_PICTURE, makers.in_picture(1 / 2)),
)
FURTHER = (
    Edit("crop to 25 %", makers.crop(0.25)),
    Edit("rotated by 25, same canvas", makers.rotated(whole=False)),
    Edit("rotated by 8, cut", makers.levelled),
    Edit("rotated by 180", makers.turned(Image.Transpose.ROTATE_180)),
    Edit("picture in picture, 3/4", makers.in_picture(3 / 4)),
    Edit("picture in picture, 1/3", makers.in_picture(1 / 3)),
    Edit("beside another", makers.beside),
    Edit("text across", makers.scrawled),
    Edit("stickers", makers.stickered),
    Edit("watermark", makers.watermarked),
    Edit("brighter", makers.lit(1.6)),
    Edit("darker", makers.lit(0.4)),
    Edit("less contrast", makers.faded),
    Edit("thumbnail 128 px", makers.thumbnail),
    Edit("noise", makers.grainy),
    Edit("borders to 16:9", makers.padded),
    Edit("screenshot", makers.screenshot),
    Edit("askew", makers.askew),
    Edit("several at once", makers.passed_on, 50),
)
EDITS = LISTED + FURTHER
