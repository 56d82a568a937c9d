"""What the system is measured against: the same work with nothing around it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from futu import config
from futu.images.decode import DecodeLimits, decode
from futu.models.extractor import Extractor, preprocess
from futu.models.registry import spec
from futu.models.runtime import Pixels, load_runtime
from futu.models.store import model_file

BATCH = 32
SPEC = spec()
LIMITS = DecodeLimits()


def extractor(threads: int) -> Extractor:
    """The default model with so many threads, for one caller."""
    return Extractor(SPEC, load_runtime(SPEC, _file(), threads=threads))


def side_by_side(callers: int) -> Extractor:
    """The default model for so many callers at once, with one thread each."""
    return Extractor(SPEC, load_runtime(SPEC, _file(), parallel=callers))


def _file() -> Path:
    return model_file(SPEC, config.load().models_dir)


def pixels(path: Path) -> Pixels:
    """Read, decode and resize one picture."""
    return preprocess(decode(path.read_bytes(), LIMITS, target=SPEC.input_size), SPEC)


def one_thread_loop(files: list[Path], model: Extractor) -> float:
    """Decode a batch, run the model on all cores, again; images/s."""
    started = time.monotonic()
    for at in range(0, len(files), BATCH):
        model.extract(np.stack([pixels(p) for p in files[at : at + BATCH]]))
    return len(files) / (time.monotonic() - started)


def thread_per_core(files: list[Path], model: Extractor) -> float:
    """On each core a loop of its own over its share, the model with one thread; images/s."""
    cores = os.cpu_count() or 1

    def work(share: list[Path]) -> Callable[[], None]:
        def run() -> None:
            for at in range(0, len(share), BATCH):
                model.extract(np.stack([pixels(p) for p in share[at : at + BATCH]]))

        return run

    threads = [threading.Thread(target=work(files[n::cores])) for n in range(cores)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(files) / (time.monotonic() - started)
