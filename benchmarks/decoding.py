"""Rate of decoding against other ways: python -m benchmarks.decoding --photos PHOTOS.

Other libraries are measured if they are installed (OpenCV, imagecodecs, pyvips, kornia-rs).
Images/s of processor time on one core, and of the clock with a thread on each of two cores.
"""

from __future__ import annotations

import argparse
import importlib
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import simplejpeg
from benchmarks import system
from PIL import Image

from futu.images.decode import DecodeLimits, Picture
from futu.images.pixels import Pixels
from futu.models.resize import by_pillow, resize

LIMITS = DecodeLimits()
BICUBIC = Image.Resampling.BICUBIC
Way = Callable[[bytes, int], Pixels]


CAMERAS = {"fine": (4.0, 95), "middling": (4.0, 88), "smooth": (0.0, 88)}
"""Noise of the sensor, standard deviation of 255; quality of the JPEG."""


def camera_pictures(files: list[Path], noise: float, quality: int) -> list[bytes]:
    """JPEGs of 12 megapixels: photos enlarged, with a sensor's noise."""
    random = np.random.default_rng(1)
    made = []
    for path in files[:: len(files) // 10][:10]:
        with Image.open(path) as photo:
            big = np.asarray(photo.convert("RGB").resize((4000, 3000), BICUBIC), np.int16)
        if noise:
            big = big + random.normal(0, noise, big.shape).astype(np.int16)
        buffer = io.BytesIO()
        image = Image.fromarray(big.clip(0, 255).astype(np.uint8))
        image.save(buffer, "JPEG", quality=quality)
        made.append(buffer.getvalue())
    return made


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def futu(data: bytes, target: int) -> Pixels:
    return resize(Picture(data, LIMITS).decode(target), target)


def ordinary(data: bytes, target: int) -> Pixels:
    return np.asarray(opened(data).convert("RGB").resize((target, target), BICUBIC))


def full(data: bytes, target: int) -> Pixels:
    return np.asarray(opened(data).resize((target, target), BICUBIC, reducing_gap=2.0))


def draft(data: bytes, target: int) -> Pixels:
    image = opened(data)
    image.draft("RGB", (target, target))
    return np.asarray(image.resize((target, target), BICUBIC, reducing_gap=2.0))


def draft_simd(data: bytes, target: int) -> Pixels:
    image = opened(data)
    image.draft("RGB", (target, target))
    return resize(np.asarray(image), target)


def turbo_pillow(data: bytes, target: int) -> Pixels:
    return by_pillow(Picture(data, LIMITS).decode(target), target)


def turbo_eighths(data: bytes, target: int) -> Pixels:
    return resize(simplejpeg.decode_jpeg(data, min_height=target, min_width=target), target)


def others() -> dict[str, Way]:
    """Ways with libraries that Futu does not need."""
    ways: dict[str, Way] = {}

    def have(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError):
            return None

    if (cv2 := have("cv2")) is not None:
        cv2.setNumThreads(1)

        def opencv(data: bytes, target: int) -> Pixels:
            ratio = min(opened(data).size) // target
            flag = next((f for f in (8, 4, 2) if ratio >= f), 1)
            mode = cv2.IMREAD_COLOR if flag == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{flag}")
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
            small = cv2.resize(bgr, (target, target), interpolation=cv2.INTER_AREA)
            return np.asarray(small[..., ::-1])

        ways["OpenCV, reduced, INTER_AREA"] = opencv
    if (codecs := have("imagecodecs")) is not None:
        ways["imagecodecs, full; SIMD resize"] = lambda data, target: resize(
            codecs.jpeg8_decode(data), target
        )
    if (vips := have("pyvips")) is not None:
        vips.cache_set_max(0)
        ways["libvips thumbnail"] = lambda data, target: np.asarray(
            vips.Image.thumbnail_buffer(data, target, height=target, size="force").numpy()
        )
    if (kornia := have("kornia_rs")) is not None:
        ways["simplejpeg; kornia-rs resize"] = lambda data, target: np.asarray(
            kornia.imgproc.resize(
                Picture(data, LIMITS).decode(target), (target, target), "bicubic", True
            )
        )
    return ways


def one_core(way: Way, pictures: list[bytes], target: int) -> float:
    """Pictures per second of processor time, of all threads of the process."""
    started = time.process_time()
    for data in pictures:
        way(data, target)
    return len(pictures) / (time.process_time() - started)


def two_threads(way: Way, pictures: list[bytes], target: int) -> float:
    """Pictures per second of the clock."""

    def work(share: list[bytes]) -> None:
        for data in share:
            way(data, target)

    threads = [threading.Thread(target=work, args=(pictures[n::2],)) for n in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(pictures) / (time.perf_counter() - started)


def split(files: list[Path], target: int) -> dict[str, float]:
    """Milliseconds of processor time of each step of ours."""
    spent = dict.fromkeys(("read", "header", "decode", "resize"), 0.0)
    for path in files:
        marks = [time.thread_time()]
        data = path.read_bytes()
        marks.append(time.thread_time())
        picture = Picture(data, LIMITS)
        marks.append(time.thread_time())
        pixels = picture.decode(target)
        marks.append(time.thread_time())
        resize(pixels, target)
        marks.append(time.thread_time())
        for name, before, after in zip(spent, marks, marks[1:]):
            spent[name] += (after - before) * 1000 / len(files)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--targets", type=int, nargs="+", default=[224, 260, 288])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = system.pictures(options.photos / "gallery")[::6]
    sets = {"photos": [p.read_bytes() for p in files]}
    for kind, (noise, quality) in CAMERAS.items():
        made = camera_pictures(files, noise, quality)
        sets[f"12 MP, {kind}, {sum(map(len, made)) / len(made) / 1e6:.1f} MB,"] = made
    ways: dict[str, Way] = {
        "futu": futu,
        "Pillow, full": ordinary,
        "Pillow, full, reducing_gap": full,
        "Pillow, draft (before)": draft,
        "Pillow, draft; SIMD resize": draft_simd,
        "simplejpeg; Pillow resize": turbo_pillow,
        "simplejpeg in eighths; SIMD resize": turbo_eighths,
    } | others()
    for target in options.targets:
        split(files[:5], target)
        spent = split(files, target)
        print(f"\nphotos to {target}:", *(f"{k} {v:.3f} ms" for k, v in spent.items()))
        for name, pictures in sets.items():
            rates: dict[str, list[list[float]]] = {way: [[], []] for way in ways}
            for _ in range(options.rounds):
                for label, way in ways.items():
                    rates[label][0].append(one_core(way, pictures, target))
                    rates[label][1].append(two_threads(way, pictures, target))
            ours = median(rates["futu"][0])
            whole = [full(data, target).astype(np.int16) for data in pictures[:12]]
            print(f"{name} to {target}: images/s one core, two threads; ours / it; difference")
            for label, (single, double) in rates.items():
                difference = np.mean(
                    [np.abs(ways[label](d, target) - w).mean() for d, w in zip(pictures, whole)]
                )
                print(
                    f"  {label:36} {median(single):7.1f} {median(double):7.1f} "
                    f"{ours / median(single):6.2f} {difference:6.2f}"
                )
    print("\nwanted: 12 MP, ours / Pillow, full, >= 4")


if __name__ == "__main__":
    main()
