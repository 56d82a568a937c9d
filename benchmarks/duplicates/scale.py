"""How long a search for duplicates takes, and how much memory, as a library grows.

The vectors are those of ``benchmarks.index``, which builds and keeps catalogue and index; three in
a hundred are copies of another one (cosine 0.995). What is timed is what a run does with vectors
that are in the index already: finding pairs, groups, and writing them to the catalogue (SQLite).
"""

from __future__ import annotations

import itertools
import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from benchmarks.index import prepared
from benchmarks.peers.index_futu import MODEL, catalogue_of
from benchmarks.vectors import DIMENSION, Vectors

from futu.catalogue.store import Catalogue
from futu.controller.duplicates.finder import Finders
from futu.controller.duplicates.pixels import PixelHashes
from futu.controller.duplicates.runs import DuplicateRuns
from futu.images.decode import DecodeLimits
from futu.images.folder import ImageRoots
from futu.index.live import LiveIndexes
from futu.jobs.streams import JobQueue

THRESHOLD = 97.0
_COPY = 0.99
"""Cosine of what the generator made as a copy; a little lower there are others too."""
WANTED_S = {100_000: 20.0}
_SAMPLE = 300
_CHUNK = 50_000
_PEER = Path(__file__).parents[1] / "peers" / "index_futu.py"


@dataclass
class Memory:
    """The most memory that this process has, above what it had at first."""

    most_bytes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        self._process = psutil.Process()
        self._first = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.most_bytes = max(self.most_bytes, self._process.memory_info().rss - self._first)


def run(sizes: Sequence[int], folder: Path) -> None:
    """Each size in a process of its own; then how it grows."""
    print(
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"
    )
    times: list[tuple[int, float]] = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.duplicates.scale", str(size), str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout, end="", flush=True)
        times.append((size, float(done.stdout.split(" s, ")[0].split()[-1])))
    for (small, quick), (large, slow) in itertools.pairwise(times):
        power = math.log(slow / quick) / math.log(large / small)
        print(f"from {small:,} to {large:,}: time grows with the power {power:.2f} of the size")


def one(size: int, folder: Path) -> None:
    """One size: build what is missing, search, print."""
    place = prepared(folder / str(size), size)
    command = [sys.executable, str(_PEER), "futu", str(place), "0.99", "--build-only"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    vectors = np.load(place / "vectors.npy", mmap_mode="r")
    catalogue = catalogue_of(place, vectors)
    indexes = LiveIndexes(place, catalogue.identity, {"copy": (MODEL, DIMENSION)})
    indexes.load()
    indexes.level(catalogue.searchable_vector_ids, catalogue.vectors, catalogue.version)
    live = indexes["copy"]
    live.keeper.wait()
    # Nobody answers there: pixels are not compared.
    queue = JobQueue(f"unix://{place}/nobody.sock")
    pixels = PixelHashes(catalogue, queue, ImageRoots([place]), DecodeLimits(), 1.0)
    finders = Finders(catalogue, pixels, {"copy": live, "similar": live})
    runs = DuplicateRuns(catalogue, finders)
    stages: dict[str, float] = {}
    with Memory() as memory:
        begun, processor = time.monotonic(), time.process_time()
        going = runs.start([1], "", THRESHOLD)
        while not going.ended.wait(0.02):
            stages[going.record.stage] = time.monotonic() - begun
        took, processor = time.monotonic() - begun, time.process_time() - processor
    record = going.record
    if record.state != "done":
        raise RuntimeError(record.message)
    wanted = ""
    if size in WANTED_S:
        wanted = f"; wanted {WANTED_S[size]:g} s: {'met' if took <= WANTED_S[size] else 'MISSED'}"
    print(
        f"{size:>10,} vectors ({live.index.kind}): {took:.1f} s, {processor:.0f} s of processor, "
        f"{memory.most_bytes / 1e6:,.0f} MB more, {record.groups:,} groups, of a sample's copies "
        f"{_found(catalogue, record.id, vectors):.4f} found{wanted}"
    )
    ends = ", ".join(f"{stage or 'waiting'} until {at:.1f}" for stage, at in stages.items())
    print(f"{'':10} {ends}")
    runs.stop()
    indexes.close()
    catalogue.close()


def _found(catalogue: Catalogue, run_id: int, vectors: Vectors) -> float:
    """The share, among pairs of copies, of those that are in one group.

    Those of a sample of the vectors.
    """
    group_of: dict[int, int] = {}
    after = 0
    while page := catalogue.groups(run_id, after=after, limit=1000):
        for group in page:
            group_of |= {member.image_id: group.number for member in group.members}
        after = page[-1].number
    rows = np.sort(np.random.default_rng(7).choice(len(vectors), 20 * _SAMPLE, replace=False))
    queries, right, pairs = np.asarray(vectors[rows], np.float32), 0, 0
    for start in range(0, len(vectors), _CHUNK):
        cosines = queries @ np.asarray(vectors[start : start + _CHUNK], np.float32).T
        for one, other in zip(*np.nonzero(cosines >= _COPY)):
            left, right_id = int(rows[one]) + 1, start + int(other) + 1
            if left != right_id:
                pairs += 1
                right += group_of.get(left, -1) == group_of.get(right_id, -2)
    return right / pairs if pairs else math.nan


if __name__ == "__main__":
    one(int(sys.argv[1]), Path(sys.argv[2]))
