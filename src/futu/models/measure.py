"""How fast a model runs here, by each runtime."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from futu.errors import SettingsError
from futu.models.runtime import CPU_BATCH, Choice, Runtime, load_runtime
from futu.models.spec import ModelSpec

_ROUNDS = 4


@dataclass(frozen=True)
class Figure:
    """A runtime's rate.

    Attributes:
        runtime, about: which, and its version, device and precision.
        images_per_s: on all cores, one caller with one thread for each; the best of four turns.
        default: whether it is taken when the settings leave the choice open.
    """

    runtime: str
    about: str
    images_per_s: float
    default: bool


def measure(spec: ModelSpec, file: Path, seconds: float = 2.0) -> list[Figure]:
    """Run OpenVINO and ONNX Runtime on the processor by turns; those not installed are left out.

    Raises:
        ModelError: the model cannot be used.
    """
    cores = os.cpu_count() or 1
    default = load_runtime(spec, file, Choice(device="cpu"))
    taken = default.about
    default.close()
    runtimes: list[Runtime] = []
    try:
        for choice in (Choice("openvino"), Choice("onnxruntime", device="cpu")):
            try:
                runtimes.append(load_runtime(spec, file, choice, parallel=cores))
            except SettingsError:
                continue
        best = dict.fromkeys(range(len(runtimes)), 0.0)
        for _ in range(_ROUNDS):
            for number, runtime in enumerate(runtimes):
                rate = images_per_s(runtime, spec, cores, 2 * CPU_BATCH, seconds / _ROUNDS)
                best[number] = max(best[number], rate)
        return [
            Figure(r.name, r.about, round(best[n], 1), r.about == taken)
            for n, r in enumerate(runtimes)
        ]
    finally:
        for runtime in runtimes:
            runtime.close()


def images_per_s(
    runtime: Runtime, spec: ModelSpec, callers: int, batch: int, seconds: float
) -> float:
    """Call ``run`` from so many threads at once for so long."""
    side = spec.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    runtime.run(pixels)
    done = [0] * callers
    ends = time.perf_counter() + seconds

    def call(number: int) -> None:
        while time.perf_counter() < ends:
            runtime.run(pixels)
            done[number] += batch

    threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started)
