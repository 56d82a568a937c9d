"""Feature vectors of many files by several models, one decode for all."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from futu import config
from futu.images.decode import DecodeLimits, decode
from futu.images.pixels import Pixels
from futu.models import registry
from futu.models.choice import Choice
from futu.models.extractor import Extractor, preprocess
from futu.models.runtime import Features, load_runtime
from futu.models.spec import ModelSpec
from futu.models.store import model_file

CORES = os.cpu_count() or 1
_CHUNK = 32
_REPORT_EVERY = 1000


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        about: library, device and precision.
        prepare: from decoded pixels, its input.
    """

    name: str
    spec: ModelSpec
    about: str
    extractor: Extractor
    prepare: Callable[[Pixels], Pixels]


def load(
    name: str,
    choice: Choice | None = None,
    spec: ModelSpec | None = None,
    prepare: Callable[[Pixels], Pixels] | None = None,
) -> Model:
    """A model, with one thread for each core.

    Args:
        name: built in, or in the models directory.
        choice: by default that of the settings.
        spec: instead of the registry's.
        prepare: instead of what the spec says.
    """
    settings = config.load()
    published = registry.spec(name, settings.models_dir)
    file = model_file(published, settings.models_dir)
    used = spec or published
    runtime = load_runtime(used, file, choice or Choice.of(settings), parallel=CORES)
    return Model(
        name,
        used,
        runtime.about,
        Extractor(used, runtime),
        prepare or (lambda pixels: preprocess(pixels, used)),
    )


def decoded(file: Path, target: int) -> Pixels:
    """As a compute server does it."""
    return decode(file.read_bytes(), DecodeLimits(), target=target, name=str(file))


def vectors(files: Sequence[Path], models: Sequence[Model]) -> list[Features]:
    """Feature vectors by each model: float32, shape (files, dimension), in the models' order."""
    target = max(model.spec.input_size for model in models)
    done, counting = 0, threading.Lock()

    def work(chunk: Sequence[Path]) -> list[Features]:
        nonlocal done
        pictures = [decoded(file, target) for file in chunk]
        found = [m.extractor.extract(np.stack([m.prepare(p) for p in pictures])) for m in models]
        with counting:
            before, done = done, done + len(chunk)
            if before // _REPORT_EVERY < done // _REPORT_EVERY:
                print(f"models: {done} of {len(files)}", file=sys.stderr, flush=True)
        return found

    chunks = [files[at : at + _CHUNK] for at in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(CORES) as pool:
        parts = list(pool.map(work, chunks))
    return [np.concatenate(column) for column in zip(*parts)]
