"""Memory of a compute server as it works on: python -m benchmarks.growth --photos PHOTOS

Jobs of datasets, by path, over and over the gallery; resident memory after so many pictures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import deque
from itertools import cycle, islice
from pathlib import Path

import psutil
from benchmarks import bare, system
from benchmarks.peers.bench import valkey
from benchmarks.queries import compute_server

from futu.jobs.message import ImageItem, Job, new_job_id
from futu.jobs.streams import JobQueue

_BATCH = 16
_AHEAD = 8
_MB = 1024 * 1024


def work(queue: JobQueue, files: list[Path], count: int) -> None:
    """Have so many pictures done."""
    paths = islice(cycle(files), count)
    waiting: deque[tuple[Job, bytes]] = deque()
    while batch := list(islice(paths, _BATCH)):
        items = [ImageItem(path=os.fsencode(path), name=path.name) for path in batch]
        job = Job(new_job_id(), "library", [bare.SPEC.model_id], items)
        waiting.append((job, queue.enqueue(job)))
        if len(waiting) >= _AHEAD:
            queue.wait_result(*waiting.popleft(), 60)
    for sent in waiting:
        queue.wait_result(*sent, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/")
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    files = [path.absolute() for path in system.pictures(options.photos / "gallery")]
    with (
        tempfile.TemporaryDirectory() as name,
        valkey() as url,
        compute_server(url, Path(name)) as queue,
    ):
        process = psutil.Process(queue.servers.alive()[0].pid)
        done, first = 0, 0.0
        for upto in (0, 2000, options.images // 2, options.images):
            work(queue, files, upto - done)
            done = upto
            memory = process.memory_info().rss / _MB
            first = memory if upto == 2000 else first
            print(f"{upto:6} images: {memory:.0f} MB", flush=True)
    print(f"after {options.images} / after 2000: {memory / first:.3f} (wanted: about 1)")


if __name__ == "__main__":
    main()
