"""What the system is measured against: the same work with nothing around it."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from futu import config
from futu.images.decode import DecodeLimits, decode
from futu.models.extractor import Extractor, preprocess
from futu.models.registry import spec
from futu.models.runtime import Pixels, load_runtime
from futu.models.spec import ModelSpec
from futu.models.store import model_file

BATCH = 32
SPEC = spec()
LIMITS = DecodeLimits()


def extractor(threads: int, of: ModelSpec = SPEC) -> Extractor:
    """A model with so many threads, for one caller."""
    return Extractor(of, load_runtime(of, _file(of), threads=threads))


def side_by_side(callers: int, of: ModelSpec = SPEC) -> Extractor:
    """A model for so many callers at once, with one thread each."""
    return Extractor(of, load_runtime(of, _file(of), parallel=callers))


def _file(of: ModelSpec) -> Path:
    return model_file(of, config.load().models_dir)


def inputs(path: Path, specs: Sequence[ModelSpec]) -> list[Pixels]:
    """Read and decode one picture, once, and resize it for each model."""
    image = decode(path.read_bytes(), LIMITS, target=max(of.input_size for of in specs))
    return [preprocess(image, of) for of in specs]


def pixels(path: Path) -> Pixels:
    """Read, decode and resize one picture for the default model."""
    return inputs(path, [SPEC])[0]


def one_thread_loop(files: list[Path], models: Sequence[Extractor]) -> float:
    """Decode a batch, run the models on all cores, again; images/s."""
    started = time.monotonic()
    _decode_and_run(files, models)
    return len(files) / (time.monotonic() - started)


def thread_per_core(files: list[Path], models: Sequence[Extractor]) -> float:
    """On each core a loop of its own over its share, the models with one thread; images/s."""
    cores = os.cpu_count() or 1
    shares = [files[n::cores] for n in range(cores)]
    threads = [threading.Thread(target=_decode_and_run, args=(s, models)) for s in shares]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(files) / (time.monotonic() - started)


def decoders_and_model(files: list[Path], models: Sequence[Extractor]) -> float:
    """Threads that decode, one for each core, ahead of one that runs the models; images/s."""
    cores = os.cpu_count() or 1
    decoded: queue.Queue[list[Pixels]] = queue.Queue(2 * BATCH)
    specs = [model.spec for model in models]

    def work(share: list[Path]) -> None:
        for path in share:
            decoded.put(inputs(path, specs))

    threads = [threading.Thread(target=work, args=(files[n::cores],)) for n in range(cores)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    left = len(files)
    while left:
        ready = [decoded.get() for _ in range(min(BATCH, left))]
        left -= len(ready)
        for model, batch in zip(models, zip(*ready)):
            model.extract(np.stack(batch))
    for thread in threads:
        thread.join()
    return len(files) / (time.monotonic() - started)


def _decode_and_run(files: list[Path], models: Sequence[Extractor]) -> None:
    specs = [model.spec for model in models]
    for at in range(0, len(files), BATCH):
        ready = [inputs(path, specs) for path in files[at : at + BATCH]]
        for model, batch in zip(models, zip(*ready)):
            model.extract(np.stack(batch))
