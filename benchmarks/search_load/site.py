"""A data directory with many images that were never files: catalogue and vectors of clusters."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from futu import config
from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.schema import FAILED, PENDING
from futu.catalogue.store import Catalogue
from futu.config import Settings
from futu.models.registry import default_spec

DIMENSION = 512
DATASETS = 4
_CLUSTERS = 2000
_SPREAD = 0.7
_PIECE = 5000
_START_NS = 1_400_000_000 * 10**9
_STEP_NS = 60 * 10**9

_MODEL = f"""
question = "similar"
sha256 = "{hashlib.sha256(b"bench").hexdigest()}"
input = "image"
output = "vector"
dimension = {DIMENSION}
size = 224
layout = "NCHW"
type = "float32"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
resize = "squash"
resample = "bicubic"
licence = "none"
source = "a benchmark"
"""


def environment(folder: Path, redis_url: str) -> dict[str, str]:
    """The settings of a controller on such a site."""
    return {
        "FUTU_DATA_DIR": str(folder / "data"),
        "FUTU_DATASETS_DIR": str(folder / "datasets"),
        "FUTU_MODELS_DIR": str(folder / "models"),
        "FUTU_LOG_FILE": str(folder / "futu.log"),
        "FUTU_SIMILAR_MODEL": "bench",
        "REDIS_URL": redis_url,
    }


def settings(folder: Path, redis_url: str = "") -> Settings:
    """The same, for this process."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "models" / "bench.toml").write_text(_MODEL)
    return config.load(
        data_dir=folder / "data",
        datasets_dir=folder / "datasets",
        models_dir=folder / "models",
        similar_model="bench",
        redis_url=redis_url or None,
    )


def content(number: int) -> bytes:
    """The content hash of an image."""
    return hashlib.sha256(b"%d" % number).digest()


def vectors(first: int, count: int) -> npt.NDArray[np.float32]:
    """Vectors (count, DIMENSION) of unit length: clusters of unequal size about their centres."""
    centres = np.random.default_rng(1).normal(size=(_CLUSTERS, DIMENSION)).astype(np.float32)
    random = np.random.default_rng([2, first])
    of = np.minimum((_CLUSTERS * random.random(count) ** 2).astype(int), _CLUSTERS - 1)
    made = centres[of] + _SPREAD * random.normal(size=(count, DIMENSION)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def path(number: int) -> str:
    """Where an image is in its dataset."""
    return f"{number % 100:02}/{number // 10_000:04}/{number:08}.jpg"


def size(number: int) -> int:
    """Bytes of an image's file."""
    return 1000 + number


def modified_ns(number: int) -> int:
    """When an image's file was modified."""
    return _START_NS + number * _STEP_NS


def fill(folder: Path, count: int, waiting: int) -> None:
    """Write a catalogue of ``count`` searchable images, and ``waiting`` that lack their vectors.

    They are spread over ``DATASETS`` datasets; ids begin with 1.
    """
    chosen = settings(folder)
    chosen.data_dir.mkdir(parents=True, exist_ok=True)
    model_id = default_spec("similar", chosen).model_id
    catalogue = Catalogue(sqlite_url(chosen.data_dir / "catalogue.db"))
    for number in range(DATASETS):
        (chosen.datasets_dir / f"set{number}").mkdir(parents=True)
        catalogue.add_dataset(f"set{number}", str(chosen.datasets_dir.absolute() / f"set{number}"))
    ids = [dataset.id for dataset in catalogue.datasets()]
    for first in range(0, count + waiting, _PIECE):
        numbers = range(first, min(first + _PIECE, count + waiting))
        files = [
            ScannedFile(
                path(n),
                size(n),
                modified_ns(n),
                content(n),
                # Pending ones would be looked for on the disk.
                PENDING if n < count else FAILED,
            )
            for n in numbers
        ]
        catalogue.write_files(ids[first // _PIECE % DATASETS], files)
        ready = range(first, min(first + _PIECE, count))
        if ready:
            made = vectors(first, len(ready))
            outcomes = [
                Outcome(content(n), {model_id: vector}, 4000, 3000)
                for n, vector in zip(ready, made)
            ]
            catalogue.record(outcomes, model_id)
    catalogue.close()
