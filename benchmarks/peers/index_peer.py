"""usearch or hnswlib, measured as benchmarks/index.py asks; needs only itself and numpy."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_WIDTHS = (16, 24, 32, 48, 64, 96, 128, 160, 200, 256, 320, 400, 512, 640, 800)
_CHANGES = 500


class Hnswlib:
    """M = 16, ef_construction = 200: what its authors recommend for such dimensions."""

    def __init__(self, dimension: int, size: int) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip", dimension)
        self.size = size

    def begin(self) -> None:
        self.index.init_index(self.size + _CHANGES, M=16, ef_construction=200)

    def add(self, ids: Any, vectors: Any, threads: int) -> None:
        self.index.add_items(np.asarray(vectors, np.float32), ids, num_threads=threads)

    def remove(self, ids: Any) -> None:
        for one in ids:
            self.index.mark_deleted(int(one))

    def width(self, width: int) -> None:
        self.index.set_ef(width)

    def search(self, query: Any, k: int) -> Any:
        return self.index.knn_query(query, k, num_threads=1)[0][0].astype(np.int64)

    def save(self, path: Path) -> None:
        self.index.save_index(str(path))

    def load(self, path: Path) -> None:
        self.index.load_index(str(path), max_elements=self.size + _CHANGES)


class Usearch:
    """Vectors as f16, which is what it can take without losing the recall; its other defaults."""

    def __init__(self, dimension: int, size: int) -> None:
        from usearch.index import Index

        self.index = Index(ndim=dimension, metric="ip", dtype="f16")

    def begin(self) -> None:
        """Nothing to prepare."""

    def add(self, ids: Any, vectors: Any, threads: int) -> None:
        self.index.add(ids, np.asarray(vectors), threads=threads)

    def remove(self, ids: Any) -> None:
        for one in ids:
            self.index.remove(int(one))

    def width(self, width: int) -> None:
        self.index.expansion_search = width

    def search(self, query: Any, k: int) -> Any:
        return self.index.search(query, k, threads=1).keys.astype(np.int64)

    def save(self, path: Path) -> None:
        self.index.save(str(path))

    def load(self, path: Path) -> None:
        self.index.load(str(path))


def resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def recall_and_times(search: Any, queries: Any, rows: Any, answers: Any, k: int) -> Any:
    hits, times = 0, []
    for query, own, answer in zip(queries, rows, answers):
        begun = time.perf_counter()
        found = search(query, k + 1)
        times.append(time.perf_counter() - begun)
        found = found[found != own][:k]
        hits += len(set(found.tolist()) & set(answer.tolist()))
    return hits / answers.size, np.array(times) * 1e3


def main() -> None:
    name, folder, wanted = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    given = np.load(folder / "queries.npz")
    rows, answers = given["rows"], given["answers"]
    queries = np.asarray(vectors[rows], np.float32)
    count, dimension = vectors.shape
    kind: Any = {"hnswlib": Hnswlib, "usearch": Usearch}[name]
    saved, facts_file = folder / f"{name}.index", folder / f"{name}.json"
    if not facts_file.exists():
        engine, begun = kind(dimension, count), time.monotonic()
        engine.begin()
        for start in range(0, count, 20_000):
            piece = vectors[start : start + 20_000]
            engine.add(np.arange(start, start + len(piece)), piece, os.cpu_count() or 1)
        taken = {"build_s": time.monotonic() - begun, "build_cpu_s": time.process_time()}
        engine.save(saved)
        facts_file.write_text(json.dumps(taken))
        del engine
    facts = json.loads(facts_file.read_text())
    if "--build-only" in sys.argv:
        print(json.dumps(facts))
        return
    before = resident_mb()
    engine = kind(dimension, count)
    engine.load(saved)
    for width in _WIDTHS:
        engine.width(width)
        recall, _ = recall_and_times(engine.search, queries, rows, answers, answers.shape[1])
        if recall >= wanted:
            break
    rounds = [
        recall_and_times(engine.search, queries, rows, answers, answers.shape[1]) for _ in range(5)
    ]
    times = np.concatenate([found[1] for found in rounds])
    facts |= {
        "recall": rounds[0][0], "p50_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)), "memory_mb": resident_mb() - before,
        "width": width,
    }  # fmt: skip
    new = np.roll(np.asarray(vectors[:_CHANGES], np.float32), 1, axis=1)
    ids, begun = np.arange(count, count + _CHANGES), time.monotonic()
    engine.add(ids, new, 1)
    facts["adds_s"] = _CHANGES / (time.monotonic() - begun)
    begun = time.monotonic()
    engine.remove(ids)
    facts["removes_s"] = _CHANGES / (time.monotonic() - begun)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
