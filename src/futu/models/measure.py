"""How fast a model runs here, by each runtime."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from futu.errors import SettingsError
from futu.models.choice import Choice
from futu.models.runtime import CPU_BATCH, Runtime, load_runtime
from futu.models.spec import ModelSpec

_ROUNDS = 4


@dataclass(frozen=True)
class Figure:
    """A runtime's rate.

    Attributes:
        runtime, about: which, and its version, device and precision.
        images_per_s: on all cores, one caller with one thread for each; the best of four turns.
        images_per_core_s: for each second of processor time, whatever else runs on the machine.
        default: whether it is taken when the settings leave the choice open.
    """

    runtime: str
    about: str
    images_per_s: float
    images_per_core_s: float
    default: bool


class Rate(NamedTuple):
    """Images for each second that passed, and for each second of processor time."""

    per_s: float
    per_core_s: float

    def best(self, other: Rate) -> Rate:
        """The higher of each."""
        return Rate(*map(max, self, other))


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
        best = [Rate(0, 0)] * len(runtimes)
        for _ in range(_ROUNDS):
            for number, runtime in enumerate(runtimes):
                rate = measure_rate(runtime, spec, cores, 2 * CPU_BATCH, seconds / _ROUNDS)
                best[number] = best[number].best(rate)
        return [
            Figure(r.name, r.about, round(b.per_s, 1), round(b.per_core_s, 1), r.about == taken)
            for r, b in zip(runtimes, best)
        ]
    finally:
        for runtime in runtimes:
            runtime.close()


def measure_rate(
    runtime: Runtime, spec: ModelSpec, callers: int, batch: int, seconds: float
) -> Rate:
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
    started, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    images = sum(done)
    return Rate(images / (time.perf_counter() - started), images / (time.process_time() - used))
