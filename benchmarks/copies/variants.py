"""Other ways to feed a copy model: python -m benchmarks.copies.variants --photos PHOTOS.

Average precision over the edits that the figure to reach is for, of a part of the pictures
against the whole gallery, each way on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from benchmarks import system
from benchmarks.copies import models
from benchmarks.copies.edits import FURTHER, LISTED, PICTURE_IN_PICTURE
from benchmarks.copies.measures import Ranking
from benchmarks.copies.pictures import Copies, make
from PIL import Image

from futu import config
from futu.images.pixels import Pixels
from futu.models import registry
from futu.models.choice import Choice
from futu.models.runtime import Features
from futu.models.spec import ModelSpec
from futu.models.store import model_file

_TURNED_25 = "rotated by 25"


def ways(name: str) -> Iterator[models.Model]:
    """The model as it is described, then each change by itself; its name is what is changed."""
    spec = registry.spec(name)
    yield _way("as described", name, spec)
    for resample in ("box", "bicubic", "lanczos"):
        yield _way(resample, name, replace(spec, resample=resample))
    yield _way("middle square", name, replace(spec, resize="centre"))
    for colour in ("black", "grey", "white"):
        yield _way(f"padded to a square, {colour}", name, spec, colour)
    for side in (192, 224, 256, 288, 320, 384):
        if side != spec.input_size:
            yield _way(f"{side} px", name, replace(spec, input_size=side))


def _way(title: str, name: str, spec: ModelSpec, padding: str | None = None) -> models.Model:
    def padded(pixels: Pixels) -> Pixels:
        image = Image.fromarray(pixels)
        image.thumbnail((spec.input_size,) * 2, Image.Resampling.BILINEAR)
        square = Image.new("RGB", (spec.input_size,) * 2, padding or "black")
        left, top = ((spec.input_size - side) // 2 for side in image.size)
        square.paste(image, (left, top))
        return np.asarray(square)

    # One library for all, so that nothing else differs.
    choice = Choice("onnxruntime", device="cpu")
    return replace(models.load(name, choice, spec, padded if padding else None), name=title)


def aspect_kept(name: str, files: Sequence[Path]) -> Features:
    """The shorter side as described, the longer in proportion: what SSCD's authors advise first."""
    spec = registry.spec(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = model_file(spec, config.load().models_dir)
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])

    def work(path: Path) -> Features:
        pixels = models.decoded(path, spec.input_size)
        height, width = pixels.shape[:2]
        scale = spec.input_size / min(height, width)
        size = (round(width * scale), round(height * scale))
        image = Image.fromarray(pixels).resize(size, Image.Resampling[spec.resample.upper()])
        (output,) = session.run([spec.output_name], {spec.input_name: np.asarray(image)[None]})
        return np.asarray(output[0] / np.linalg.norm(output[0]), np.float32)

    with ThreadPoolExecutor(models.CORES) as pool:
        return np.stack(list(pool.map(work, files)))


def line(title: str, features: Features, count: int, copies: Sequence[Copies]) -> None:
    """Print the figures of a way; the first ``count`` features are the gallery's."""
    originals, at = features[:count], count
    rankings = {}
    for each in copies:
        queries = features[at : (at := at + len(each.files))]
        rankings[each.edit] = Ranking(queries @ originals.T, np.array(each.truth))
    plain = [r for edit, r in rankings.items() if edit != PICTURE_IN_PICTURE]
    figures = (Ranking.pooled(plain), Ranking.pooled(list(rankings.values())))
    cells = [r.scores().average_precision for r in (*figures, rankings[_TURNED_25])]
    print(f"{title:30}" + "".join(f"{cell:>10.4f}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--model", default="sscd-distilled")
    parser.add_argument("--limit", type=int, default=300, help="edit about so many pictures")
    chosen = parser.parse_args()
    gallery = system.pictures(chosen.photos / "gallery")
    step = max(1, len(gallery) // chosen.limit)
    steps = [step] * len(LISTED) + [0] * len(FURTHER)
    with tempfile.TemporaryDirectory(prefix="futu-copies-") as folder:
        hosts = system.pictures(chosen.photos / "query")
        copies = make(steps, gallery, hosts, Path(folder), seed=1)
        files = [*gallery, *(file for each in copies for file in each.files)]
        print(f"{chosen.model}: average precision")
        print(f"{'':30}{'listed':>10}{'with pip':>10}{_TURNED_25:>15}")
        for way in ways(chosen.model):
            line(way.name, models.vectors(files, [way])[0], len(gallery), copies)
        line("aspect ratio kept", aspect_kept(chosen.model, files), len(gallery), copies)


if __name__ == "__main__":
    main()
