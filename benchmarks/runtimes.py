"""Models by OpenVINO and ONNX Runtime, and the start of a compute server.

    python -m benchmarks.runtimes [--shapes] [--start] [MODEL ...]

The models must be in place (futu models pull NAME); without names, all that are. Only the models
run: no decoding. ``--shapes`` varies threads and batches; ``--start`` starts compute servers with
the default model in place.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image

from futu import config
from futu.jobs import embedded
from futu.jobs.message import ImageItem, Job, new_job_id
from futu.jobs.streams import JobQueue
from futu.models import measure, registry, store
from futu.models.choice import Choice
from futu.models.runtime import load_runtime
from futu.models.spec import ModelSpec

SETTINGS = config.load()
BATCHES = (1, 8, 16, 32)


def compare(spec: ModelSpec, seconds: float) -> None:
    """Images/s on all cores by each runtime, the ratio of what a core does, and the default."""
    figures = measure.measure(spec, store.model_file(spec, SETTINGS.models_dir), seconds)
    rates = {f.runtime: f.images_per_core_s for f in figures}
    for f in figures:
        chosen = ", taken by default" if f.default else ""
        core = f"{f.images_per_core_s:.0f} for each second of a core"
        print(f"{spec.name}: {f.about}: {f.images_per_s:.0f} images/s, {core}{chosen}")
    if len(rates) == 2:
        print(
            f"{spec.name}: OpenVINO / ONNX Runtime {rates['openvino'] / rates['onnxruntime']:.2f}"
        )


def shapes(spec: ModelSpec, seconds: float) -> None:
    """Images/s by threads and batch, by the default runtime; the turns are mixed."""
    file = store.model_file(spec, SETTINGS.models_dir)
    cores = os.cpu_count() or 1
    layouts = {
        "1 thread": (1, 1),
        f"{cores} callers of 1 thread": (1, cores),
        f"1 caller of {cores} threads": (cores, 1),
    }
    loaded = {
        name: (load_runtime(spec, file, Choice(), threads=t, parallel=p), p)
        for name, (t, p) in layouts.items()
    }
    best: dict[tuple[str, int], measure.Rate] = {}
    for _ in range(4):
        for name, (runtime, callers) in loaded.items():
            for batch in BATCHES:
                rate = measure.measure_rate(runtime, spec, callers, batch, seconds / 8)
                best[name, batch] = rate.best(best.get((name, batch), rate))
    for name in layouts:
        shown = ", ".join(
            f"batch {batch}: {best[name, batch].per_s:.0f} ({best[name, batch].per_core_s:.0f})"
            for batch in BATCHES
        )
        print(f"{spec.name}: {name}: {shown} images/s (for each second of a core)")
    for runtime, _ in loaded.values():
        runtime.close()


def start(rounds: int) -> None:
    """Seconds from the start of a compute server's process to its first vector; its memory."""
    picture = Path(tempfile.gettempdir()) / "futu-benchmark.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)).save(
        picture
    )
    spec = registry.default_spec("similar", SETTINGS)
    store.model_file(spec, SETTINGS.models_dir)
    times, first, busy = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="futu-benchmark-") as folder:
            plan = embedded.plan(Path(folder))
            redis = subprocess.Popen(plan.command, stdout=subprocess.DEVNULL)
            queue = JobQueue(plan.url)
            while plan.socket_path is not None and not plan.socket_path.exists():
                time.sleep(0.01)
            began = time.monotonic()
            server = subprocess.Popen(
                [sys.executable, "-m", "futu", "compute"],
                cwd=folder,
                env=os.environ | {"REDIS_URL": plan.url},
                stderr=subprocess.DEVNULL,
            )
            _ask(queue, spec, picture, 1)
            times.append(time.monotonic() - began)
            memory = psutil.Process(server.pid).memory_info
            first.append(memory().rss)
            for _ in range(20):
                _ask(queue, spec, picture, 16)
            busy.append(memory().rss)
            server.terminate()
            server.wait()
            queue.close()
            redis.terminate()
            redis.wait()
            plan.cleanup()
    picture.unlink()
    shown = ", ".join(f"{t:.2f}" for t in times)
    print(f"start to first vector: median {median(times):.2f} s  [{shown}] (wanted <= 2.5)")
    print(f"resident memory after it: {median(first) / 1e6:.0f} MB")
    print(f"resident memory after 320 images: {median(busy) / 1e6:.0f} MB (wanted <= 450)")


def _ask(queue: JobQueue, spec: ModelSpec, picture: Path, count: int) -> None:
    items = [ImageItem(path=os.fsencode(picture), name=picture.name)] * count
    job = Job(new_job_id(), "query" if count == 1 else "library", [spec.model_id], items)
    result = queue.wait_result(job, queue.enqueue(job), 60)
    if not all(item.vectors for item in result.items):
        raise RuntimeError(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.start:
        start(options.rounds)
        return
    for name in options.models or registry.names():
        spec = registry.spec(name, SETTINGS.models_dir)
        if not options.models and not store.is_in_place(spec, SETTINGS.models_dir):
            print(f"{name}: not in place, left out (futu models pull {name})")
        elif options.shapes:
            shapes(spec, options.seconds)
        else:
            compare(spec, options.seconds)


if __name__ == "__main__":
    main()
