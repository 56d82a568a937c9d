"""Peak memory of decoding against decode_cost, by format: python -m benchmarks.decoding_memory.

Each picture is decoded in a process of its own; the peak is what the system counts (VmHWM),
above what the process had before. Linux only.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.pictures import dng, heic

from futu.images.decode import DecodeLimits, Picture
from futu.images.info import decode_cost

LIMITS = DecodeLimits(max_bytes=2**31, max_pixels=2**31)
TARGET = 224


def picture(width: int, height: int) -> Image.Image:
    """Large waves and little noise, so that it compresses as photos do."""
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / 300
    waves = [np.sin(rows * a + columns * b) * 100 + 128 for a, b in ((1, 2), (3, 1), (2, 5))]
    noise = random.integers(-4, 5, (height, width), np.int8)
    return Image.fromarray(np.stack([(w + noise).astype(np.uint8) for w in waves], -1))


def saved(kind: str, mode: str = "RGB", **options: Any) -> Callable[[Image.Image], bytes]:
    def save(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif mode == "F":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.float32))
        else:
            image = image.convert(mode)
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return save


CASES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": saved("JPEG", quality=88),
    "JPEG, progressive": saved("JPEG", quality=88, progressive=True),
    "JPEG, progressive, 4:4:4": saved("JPEG", quality=88, progressive=True, subsampling=0),
    "JPEG, grey": saved("JPEG", "L", quality=88),
    "JPEG, CMYK": saved("JPEG", "CMYK", quality=88),
    "PNG": saved("PNG", compress_level=1),
    "PNG, alpha": saved("PNG", "RGBA", compress_level=1),
    "PNG, palette": saved("PNG", "P", compress_level=1),
    "PNG, grey": saved("PNG", "L", compress_level=1),
    "PNG, grey and alpha": saved("PNG", "LA", compress_level=1),
    "PNG, 16 bits": saved("PNG", "I;16", compress_level=1),
    "GIF": saved("GIF", "P"),
    "BMP": saved("BMP"),
    "WebP": saved("WEBP", method=0),
    "WebP, lossless": saved("WEBP", lossless=True, method=0, quality=0),
    "WebP, alpha": saved("WEBP", "RGBA", method=0),
    "TIFF": saved("TIFF"),
    "TIFF, LZW": saved("TIFF", compression="tiff_lzw"),
    "TIFF, LZW, one strip": saved("TIFF", compression="tiff_lzw", strip_size=2**31 - 1),
    "TIFF, JPEG": saved("TIFF", compression="jpeg"),
    "TIFF, alpha": saved("TIFF", "RGBA", compression="tiff_lzw"),
    "TIFF, 16 bits": saved("TIFF", "I;16"),
    "TIFF, float": saved("TIFF", "F"),
    "AVIF": saved("AVIF", speed=10),
    "AVIF, 4:4:4, alpha": saved("AVIF", "RGBA", speed=10, subsampling="4:4:4"),
    "HEIC": heic,
    "HEIC, alpha": lambda image: heic(image.convert("RGBA")),
    "RAW, DNG": dng,
}


def measure(path: Path) -> None:
    """Print the size, the estimate and the measured peak, bytes."""
    data = path.read_bytes()
    small = io.BytesIO()
    Image.new("RGB", (300, 300)).save(small, "JPEG")
    Picture(small.getvalue(), LIMITS).decode(TARGET)
    opened = Picture(data, LIMITS)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    opened.decode(TARGET)
    print(len(data), decode_cost(opened.info, TARGET), _status("VmHWM") - before)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file is not None:
        measure(options.file)
        return
    image = picture(options.width, options.height)
    pixels = options.width * options.height
    print(f"{options.width} x {options.height}, peaks in MB (bytes per pixel)")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in CASES.items():
            if not name.startswith(options.only):
                continue
            path = Path(folder) / "picture"
            path.write_bytes(make(image))
            command = [sys.executable, "-m", "benchmarks.decoding_memory", "--file", str(path)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            size, estimate, peak = map(int, answer.split())
            print(
                f"{name:26} file {size / 1e6:6.1f}  peak {peak / 1e6:7.1f} ({peak / pixels:5.2f})"
                f"  estimate {estimate / 1e6:7.1f}  estimate / peak {estimate / peak:5.2f}"
            )


if __name__ == "__main__":
    main()
