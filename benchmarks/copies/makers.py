"""Further ways to edit a picture, beside those of futu.images.edits."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from futu.images.edits import WORDS, Draw, Make, captioned, crop, font, recoloured, sentence


def levelled(picture: Image.Image, *_: object) -> Image.Image:
    """By 8 degrees and cut so that no corner shows, as when a horizon is set right."""
    inside = 0.78
    whole = picture.rotate(8, Image.Resampling.BICUBIC)
    width, height = (side * inside for side in whole.size)
    left, top = (whole.width - width) / 2, (whole.height - height) / 2
    return whole.crop((round(left), round(top), round(left + width), round(top + height)))


def in_picture(share: float) -> Make:
    """Somewhere in another picture, at most this share of its width and of its height."""

    def make(picture: Image.Image, chance: Draw, host: Image.Image) -> Image.Image:
        result = host.copy()
        small = picture.copy()
        small.thumbnail((host.width * share, host.height * share), Image.Resampling.BICUBIC)
        left = chance.randint(0, host.width - small.width)
        result.paste(small, (left, chance.randint(0, host.height - small.height)))
        return result

    return make


def beside(picture: Image.Image, chance: Draw, host: Image.Image) -> Image.Image:
    """Left or right of another picture, at the same height."""
    pair = [
        picture,
        host.resize((round(host.width * picture.height / host.height), picture.height)),
    ]
    chance.shuffle(pair)
    result = Image.new("RGB", (pair[0].width + pair[1].width, picture.height))
    result.paste(pair[0], (0, 0))
    result.paste(pair[1], (pair[0].width, 0))
    return result


def scrawled(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """Text across the picture, in three lines."""
    result = picture.copy()
    pen = ImageDraw.Draw(result)
    for share in (0.15, 0.5, 0.85):
        pen.text(
            (result.width / 2, share * result.height),
            sentence(chance),
            "white",
            font(picture, 0.08),
            anchor="mm",
            stroke_width=2,
            stroke_fill="black",
        )
    return result


def stickered(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """Three opaque discs that hide up to 15 % of the area."""
    result = picture.copy()
    pen = ImageDraw.Draw(result)
    radius = math.sqrt(0.05 * picture.width * picture.height / math.pi)
    for colour in ("gold", "crimson", "royalblue"):
        x = chance.uniform(radius, picture.width - radius)
        y = chance.uniform(radius, picture.height - radius)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour, "white", 3)
    return result


def watermarked(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """A grid of text, 40 % opaque."""
    text = " ".join(chance.sample(WORDS, 2)).upper()
    sheet = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(sheet)
    for row in range(5):
        for column in range(3):
            at = (picture.width * (column + row % 2 / 2) / 3, picture.height * (row + 0.5) / 5)
            pen.text(at, text, 102, font(picture, 0.06), anchor="mm")
    return Image.composite(Image.new("RGB", picture.size, "white"), picture, sheet)


def lit(factor: float) -> Make:
    """Brighter or darker."""
    return lambda picture, *_: ImageEnhance.Brightness(picture).enhance(factor)


def faded(picture: Image.Image, *_: object) -> Image.Image:
    return ImageEnhance.Contrast(picture).enhance(0.5)


def thumbnail(picture: Image.Image, *_: object) -> Image.Image:
    result = picture.copy()
    result.thumbnail((128, 128), Image.Resampling.BICUBIC)
    return result


def grainy(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """Noise of standard deviation 25 of 255."""
    noise = np.random.default_rng(chance.getrandbits(32)).normal(0, 25, (*picture.size[::-1], 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def padded(picture: Image.Image, *_: object) -> Image.Image:
    """White borders to 16:9, as a slide or a video has."""
    width, height = round(picture.height * 1.1 * 16 / 9), round(picture.height * 1.1)
    result = Image.new("RGB", (max(width, picture.width), height), "white")
    result.paste(picture, ((result.width - picture.width) // 2, (height - picture.height) // 2))
    return result


def screenshot(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """In the dark page of an application, on a tall telephone."""
    side = picture.width
    result = Image.new(
        "RGB", (side, max(round(side * 2.1), round(picture.height * 1.3))), "#121212"
    )
    top = (result.height - picture.height) // 2
    result.paste(picture, (0, top))
    pen = ImageDraw.Draw(result)
    small = font(picture, 0.045)
    pen.text(
        (side * 0.05, side * 0.03),
        f"{chance.randint(1, 12)}:{chance.randint(10, 59)}",
        "white",
        small,
    )
    pen.ellipse((side * 0.05, top - side * 0.14, side * 0.15, top - side * 0.04), "teal")
    pen.text((side * 0.2, top - side * 0.12), sentence(chance), "white", small)
    pen.text((side * 0.05, top + picture.height + side * 0.05), sentence(chance), "white", small)
    return result


def askew(picture: Image.Image, chance: Draw, _: Image.Image) -> Image.Image:
    """As photographed from the side: each corner moved in by up to 15 % of the sides."""
    width, height = picture.size
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    moved = [
        (
            x + (0.15 if x == 0 else -0.15) * width * chance.random(),
            y + (0.15 if y == 0 else -0.15) * height * chance.random(),
        )
        for x, y in corners
    ]
    rows, wanted = [], []
    for (x, y), (u, v) in zip(moved, corners):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    mapping = np.linalg.solve(np.array(rows, float), np.array(wanted, float)).tolist()
    return picture.transform(
        picture.size, Image.Transform.PERSPECTIVE, mapping, Image.Resampling.BICUBIC
    )


def passed_on(picture: Image.Image, chance: Draw, host: Image.Image) -> Image.Image:
    """Several at once: mirrored, cropped to 70 %, another colour, text, small."""
    result = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for make in (crop(0.7), recoloured, captioned):
        result = make(result, chance, host)
    result.thumbnail((320, 320), Image.Resampling.BICUBIC)
    return result
