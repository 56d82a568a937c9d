"""Queries at a compute server: python -m benchmarks.queries --photos PHOTOS

Pictures go as jobs through Valkey and come back as vectors. One at a time against the bare call
(decode, then the model on all cores); by 16 clients at once against the rate of batches (the
better of two bare loops over the same pictures).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from benchmarks import bare, system
from benchmarks.peers.bench import valkey

from futu.jobs.message import ImageItem, Job, new_job_id
from futu.jobs.streams import JobQueue

_CLIENTS = 16
_PATIENCE_S = 60.0


@contextlib.contextmanager
def compute_server(url: str, folder: Path) -> Iterator[JobQueue]:
    """A compute server on a Valkey, and a queue to ask it."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("FUTU_", "REDIS_"))}
    command = [sys.executable, "-m", "futu", "compute"]
    process = subprocess.Popen(
        command, cwd=folder, env={**clean, "REDIS_URL": url}, stderr=subprocess.DEVNULL
    )
    queue = JobQueue(url)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not queue.servers.alive():
            if time.monotonic() > deadline:
                raise TimeoutError("the compute server does not start")
            time.sleep(0.05)
        yield queue
    finally:
        queue.close()
        process.send_signal(signal.SIGTERM)
        process.wait()


def ask(queue: JobQueue, data: bytes) -> float:
    """Milliseconds until a picture's vector is here."""
    started = time.perf_counter()
    job = Job(new_job_id(), "query", [bare.SPEC.model_id], [ImageItem(data=data)])
    result = queue.ask(job, _PATIENCE_S)
    if not result.items[0].vectors:
        raise RuntimeError(str(result.items[0].error))
    return (time.perf_counter() - started) * 1000


def many(queue: JobQueue, pictures: list[bytes]) -> tuple[float, list[float]]:
    """Images/s, and milliseconds of each, by clients that ask one after the other."""
    left, lock = iter(pictures), threading.Lock()
    took: list[float] = []

    def client() -> None:
        while True:
            with lock:
                data = next(left, None)
            if data is None:
                return
            took.append(ask(queue, data))

    threads = [threading.Thread(target=client) for _ in range(_CLIENTS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(pictures) / (time.monotonic() - started), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    files = system.pictures(options.photos / "gallery")
    cores = os.cpu_count() or 1
    model, shared = bare.extractor(cores), bare.side_by_side(cores)
    pictures = [path.read_bytes() for path in files]
    print(f"load {os.getloadavg()[0]:.1f}")
    single, throughput, lates = [], [], []
    with (
        tempfile.TemporaryDirectory() as name,
        valkey() as url,
        compute_server(url, Path(name)) as queue,
    ):
        many(queue, pictures[:100])
        for _ in range(options.rounds):
            ours, bares = [], []
            for path, data in list(zip(files, pictures))[::6]:
                started = time.perf_counter()
                model.extract(bare.pixels(path)[None])
                bares.append((time.perf_counter() - started) * 1000)
                ours.append(ask(queue, data))
            single.append((median(ours), median(bares)))
            rate, took = many(queue, pictures)
            loops = (
                bare.one_thread_loop(files, [model]),
                bare.thread_per_core(files, [shared]),
            )
            throughput.append((rate, max(loops)))
            lates.append(quantiles(took, n=100)[98])
    ratio = median(ours / bare_ms for ours, bare_ms in single)
    print(f"one at a time, p50 ms: futu {[round(o, 1) for o, _ in single]}")
    print(f"                       bare {[round(b, 1) for _, b in single]}")
    print(f"  futu / bare {ratio:.2f} (wanted <= 1.15: {'met' if ratio <= 1.15 else 'MISSED'})")
    share = median(ours / loop for ours, loop in throughput)
    print(f"{_CLIENTS} clients, images/s: futu {[round(o) for o, _ in throughput]}")
    print(f"                     batches {[round(b) for _, b in throughput]}")
    print(f"  futu / batches {share:.2f} (wanted >= 0.85: {'met' if share >= 0.85 else 'MISSED'})")
    print(f"  p99 of a query {median(lates):.0f} ms")
    print(f"load afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
