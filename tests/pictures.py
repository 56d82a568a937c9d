"""Small pictures, made on the spot; the same seed gives the same bytes."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
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


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file of a format that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mean_difference(a: npt.NDArray[np.uint8], b: Image.Image | npt.NDArray[np.uint8]) -> float:
    """Of all samples, in steps of 255; both have the same shape."""
    other = np.asarray(b, np.int16)
    assert a.shape == other.shape
    return float(np.abs(a.astype(np.int16) - other).mean())


def heic(image: Image.Image, **options: Any) -> bytes:
    """A HEIC file."""
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def dng(image: Image.Image, orientation: int = 1, preview: bytes = b"") -> bytes:
    """A camera raw file: uncompressed 16-bit samples behind an RGGB filter.

    Args:
        image: what the sensor saw; even width and height.
        orientation: EXIF's.
        preview: a JPEG file that stands first, as cameras put it.
    """
    seen = np.asarray(image.convert("RGB"), np.float64) / 255
    linear = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)
    samples = np.empty(linear.shape[:2], np.float64)
    for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        samples[y::2, x::2] = linear[y::2, x::2, channel]
    strip = (samples * 65535).round().astype("<u2").tobytes()
    # XYZ to linear sRGB (IEC 61966-2-1), so that the camera's colours are sRGB's
    matrix = (3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0572)
    raw_tags = [
        (254, "I", [0]),
        (256, "I", [image.width]),
        (257, "I", [image.height]),
        (258, "H", [16]),
        (259, "H", [1]),
        (262, "H", [32803]),
        (273, "data", strip),
        (277, "H", [1]),
        (278, "I", [image.height]),
        (279, "I", [len(strip)]),
        (33421, "H", [2, 2]),
        (33422, "B", [0, 1, 1, 2]),
        (50717, "I", [65535]),
    ]
    camera_tags = [
        (271, "s", b"Futu\0"),
        (272, "s", b"Test\0"),
        (274, "H", [orientation]),
        (50706, "B", [1, 4, 0, 0]),
        (50708, "s", b"Futu Test\0"),
        (50721, "r", [round(v * 10_000) for v in matrix]),
        (50728, "r", [10_000] * 3),
        (50778, "H", [21]),
    ]
    if not preview:
        return _tiff([sorted(raw_tags + camera_tags)])
    with Image.open(io.BytesIO(preview)) as shown:
        preview_tags = [
            (254, "I", [1]),
            (256, "I", [shown.width]),
            (257, "I", [shown.height]),
            (258, "H", [8, 8, 8]),
            (259, "H", [7]),
            (262, "H", [6]),
            (273, "data", preview),
            (277, "H", [3]),
            (278, "I", [shown.height]),
            (279, "I", [len(preview)]),
            (330, "ifd", 1),
        ]
    return _tiff([sorted(preview_tags + camera_tags), raw_tags])


DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""Primaries, adapted to D50."""


def icc_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float = 2.2) -> bytes:
    """A colour profile (ICC version 2) of three primaries and a gamma."""

    def numbers(values: tuple[float, ...]) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags = {b"wtpt": b"XYZ " + bytes(4) + numbers(white)}
    for letter, primary in zip((b"r", b"g", b"b"), primaries):
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + numbers(primary)
        tags[letter + b"TRC"] = curve
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags[b"cprt"] = b"text" + bytes(4) + b"none"
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value
    head = struct.pack(">I4sI", 128 + len(table) + len(body), b"test", 0x02100000)
    head += b"mntrRGB XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += numbers(white)
    return head.ljust(128, b"\0") + table + body


def _tiff(directories: list[list[tuple[int, str, Any]]]) -> bytes:
    """A little-endian TIFF; ``ifd`` as a kind means the offset of that directory."""
    starts = [8]
    for tags in directories:
        starts.append(starts[-1] + 2 + 12 * len(tags) + 4)
    head, tail = b"II*\0" + struct.pack("<I", 8), b""
    for tags in directories:
        head += struct.pack("<H", len(tags))
        for tag, kind, value in tags:
            number, packed = 1, b""
            if kind == "ifd":
                code, packed = 4, struct.pack("<I", starts[value])
            elif kind == "data":
                code, packed = 4, struct.pack("<I", starts[-1] + len(tail))
                tail += value + bytes(len(value) % 2)
            elif kind == "s":
                code, number, packed = 2, len(value), value
            elif kind == "r":
                code, number = 10, len(value)
                packed = b"".join(struct.pack("<ii", v, 10_000) for v in value)
            else:
                code, number = {"B": 1, "H": 3, "I": 4}[kind], len(value)
                packed = struct.pack(f"<{number}{kind}", *value)
            if len(packed) > 4:
                offset = starts[-1] + len(tail)
                tail += packed + bytes(len(packed) % 2)
                packed = struct.pack("<I", offset)
            head += struct.pack("<HHI", tag, code, number) + packed.ljust(4, b"\0")
        head += struct.pack("<I", 0)
    return head + tail
