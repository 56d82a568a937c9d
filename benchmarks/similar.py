"""Precision by class of each model and runtime: python -m benchmarks.similar --photos PHOTOS.

Without a server: decode, model, exact cosine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmarks import system
from benchmarks.copies import models

from futu.models import registry
from futu.models.choice import Choice

K = 10
_TOLERANCE = 0.01
_CHOICES = (
    Choice("onnxruntime", device="cpu"),
    Choice("openvino", precision="f32"),
    Choice("openvino", precision="bf16"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    photos = parser.parse_args().photos
    gallery, queries = (system.pictures(photos / name) for name in ("gallery", "query"))
    classes = np.array([file.parent.name for file in gallery])
    wanted = np.array([[file.parent.name] for file in queries])
    print(f"{len(queries)} queries, {len(gallery)} pictures")
    print(f"{'':54}precision@10   precision@1     cosine to the first: least, 1 %, median")
    changes = []
    for name in registry.names():
        if registry.spec(name).question != "similar":
            continue
        found = []
        for choice in _CHOICES:
            model = models.load(name, choice)
            (vectors,) = models.vectors([*gallery, *queries], [model])
            similarities = vectors[len(gallery) :] @ vectors[: len(gallery)].T
            nearest = np.argsort(-similarities, axis=1)[:, :K]
            hits = classes[nearest] == wanted
            found.append((vectors, hits.mean(), hits[:, 0].mean()))
            cosines = (vectors * found[0][0]).sum(axis=1)
            least, low, median = np.quantile(cosines, (0, 0.01, 0.5))
            print(
                f"{name:20}{model.about:34}{hits.mean():>14.3f}{hits[:, 0].mean():>14.3f}"
                f"{least:>24.4f}{low:>10.4f}{median:>10.4f}",
                flush=True,
            )
        changes.append(abs(found[-1][1] - found[1][1]))
    verdict = "met" if max(changes) <= _TOLERANCE else "MISSED"
    print(
        f"precision@10 under bf16 differs by {max(changes):.4f} at most, "
        f"wanted <= {_TOLERANCE}: {verdict}"
    )


if __name__ == "__main__":
    main()
