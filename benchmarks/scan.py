"""A scan in which nothing is new: python -m benchmarks.scan

Indexes a folder of unchanged files again, through a controller and its catalogue, and measures the
time until the build is done. Beside it, what only lists names, sizes and times: ``find -printf``,
and a bare walk by ``os.scandir``. No compute server runs: a scan that needed a vector would not
end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from benchmarks.peers.bench import valkey

from futu import config
from futu.catalogue.records import DatasetRecord, Outcome, ScannedFile
from futu.catalogue.schema import PENDING
from futu.controller.service import Controller
from futu.images.folder import hash_bytes

_FILES_A_FOLDER = 500
_ROWS_AT_ONCE = 5000


def make_files(folder: Path, count: int) -> None:
    """Small files, each with a content of its own, in folders of folders."""
    for number in range(count):
        place = folder / f"{number // _FILES_A_FOLDER // 20:03}" / f"{number // _FILES_A_FOLDER:05}"
        if number % _FILES_A_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"IMG_{number:07}.jpg").write_bytes(b"%d" % number)


def bare_walk(folder: str) -> int:
    """Every file's size and time; how many."""
    count, waiting = 0, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    facts = entry.stat()
                    count += facts.st_size >= 0 and facts.st_mtime_ns > 0
    return count


def find(folder: str) -> int:
    """The same by find."""
    command = ["find", folder, "-type", "f", "-printf", "%p %s %T@\\n"]
    return subprocess.run(command, check=True, capture_output=True).stdout.count(b"\n")


def fill_catalogue(controller: Controller, dataset: DatasetRecord) -> None:
    """Rows and vectors as a build would have left them."""
    catalogue, live = controller.catalogue, controller.indexes["similar"]
    generator = np.random.default_rng(0)
    paths = sorted(Path(dataset.folder).rglob("*.jpg"))
    for start in range(0, len(paths), _ROWS_AT_ONCE):
        files = []
        for path in paths[start : start + _ROWS_AT_ONCE]:
            facts, relative = path.stat(), str(path.relative_to(dataset.folder))
            digest = hash_bytes(path.read_bytes())
            files.append(ScannedFile(relative, facts.st_size, facts.st_mtime_ns, digest, PENDING))
        vectors = generator.normal(size=(len(files), live.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        catalogue.write_files(dataset.id, files)
        catalogue.record(
            [
                Outcome(file.content_hash or b"", {live.model_id: vector}, 30, 20)
                for file, vector in zip(files, vectors)
            ],
            live.model_id,
        )


def build(controller: Controller, dataset: DatasetRecord, count: int) -> None:
    """Index; every file must be found unchanged."""
    controller.ingest.start(dataset)
    while (progress := controller.ingest.progress(dataset))["state"] in ("building", "pending"):
        time.sleep(0.02)
    if (progress["state"], progress["unchanged"]) != ("done", count):
        raise RuntimeError(f"not all unchanged: {progress}")


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    count = options.files
    with tempfile.TemporaryDirectory() as name, valkey() as url:
        folder = Path(name)
        make_files(folder / "datasets" / "many", count)
        settings = config.load(
            data_dir=folder / "data", datasets_dir=folder / "datasets", redis_url=url
        )
        controller = Controller(settings)
        dataset = controller.dataset("many")
        fill_catalogue(controller, dataset)
        controller.start()
        build(controller, dataset, count)  # saves the index
        contenders: dict[str, Callable[[], object]] = {
            "futu": lambda: build(controller, dataset, count),
            "os.scandir": lambda: bare_walk(dataset.folder),
            "find -printf": lambda: find(dataset.folder),
        }
        # By turns, so that what else the machine does concerns all of them.
        rounds = [
            {label: seconds(action) for label, action in contenders.items()}
            for _ in range(options.rounds)
        ]
        medians = {label: median(taken[label] for taken in rounds) for label in contenders}
        for label in contenders:
            each = [round(taken[label], 3) for taken in rounds]
            print(f"{label:12} {medians[label]:7.3f} s  {each}")
        jobs = sum(controller.queue.depth().values())
        for label in ("os.scandir", "find -printf"):
            print(f"futu / {label}: {medians['futu'] / medians[label]:.1f}")
        print(f"jobs sent: {jobs} (wanted: 0)")
        controller.stop()


if __name__ == "__main__":
    main()
