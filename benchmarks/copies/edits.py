"""What people do to a picture before it turns up again.

LISTED are the edits that the figure to reach is for; FURTHER are others that are met in use.
"""

from __future__ import annotations

from benchmarks.copies import makers
from PIL import Image

from futu.images.edits import COMMON, Edit, crop, edited, rotated, turned

__all__ = ["EDITS", "FURTHER", "LISTED", "PICTURE_IN_PICTURE", "Edit", "edited"]

PICTURE_IN_PICTURE = "picture in picture, 1/2"
LISTED = (*COMMON, Edit(PICTURE_IN_PICTURE, makers.in_picture(1 / 2)))
FURTHER = (
    Edit("crop to 25 %", crop(0.25)),
    Edit("rotated by 25, same canvas", rotated(whole=False)),
    Edit("rotated by 8, cut", makers.levelled),
    Edit("rotated by 180", turned(Image.Transpose.ROTATE_180)),
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
