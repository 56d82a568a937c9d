"""Futu's own index, measured as benchmarks/index.py asks: derived from a catalogue in SQLite."""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.peers.index_peer import (
    _CHANGES,
    recall_and_times,
    resident_mb,
)

MODEL = "benchmark-00000000"


def catalogue_of(folder: Path, vectors: Any) -> Any:
    """A catalogue with these vectors under the ids 1, 2, ..., each of one searchable image."""
    from sqlalchemy import insert

    from futu.catalogue.engine import sqlite_url
    from futu.catalogue.schema import READY, Dataset, Image, Vector
    from futu.catalogue.session import now
    from futu.catalogue.store import Catalogue

    file = folder / "catalogue.db"
    whole = file.exists()
    catalogue = Catalogue(sqlite_url(file))
    if whole:
        return catalogue
    with catalogue.write() as db:
        made = {"id": 1, "name": "one", "folder": "/nowhere", "questions": ("similar",)}
        db.execute(insert(Dataset), [made | {"created_at": now(), "description": ""}])
    times = now()
    for start in range(0, len(vectors), 20_000):
        numbers = range(start, min(len(vectors), start + 20_000))
        hashes = [b"%032d" % number for number in numbers]
        images = [
            {
                "id": n + 1, "dataset_id": 1, "path": f"{n}.jpg", "size": 1, "mtime_ns": 1,
                "content_hash": h, "state": READY, "width": 1, "height": 1, "added_at": times,
            }
            for n, h in zip(numbers, hashes)
        ]  # fmt: skip
        rows = [
            {"id": n + 1, "model_id": MODEL, "content_hash": h, "data": vectors[n].tobytes()}
            for n, h in zip(numbers, hashes)
        ]
        with catalogue.write() as db:
            db.execute(insert(Image), images)
            db.execute(insert(Vector), rows)
    return catalogue


def main() -> None:
    from futu.index.live import LiveIndexes

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    folder, wanted = Path(sys.argv[2]), float(sys.argv[3])
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    dimension = vectors.shape[1]
    catalogue = catalogue_of(folder, vectors)

    def indexes() -> LiveIndexes:
        return LiveIndexes(folder, catalogue.identity, {"similar": (MODEL, dimension)})

    def level(made: LiveIndexes) -> None:
        made.level(catalogue.searchable_vector_ids, catalogue.vectors, catalogue.version)

    facts_file = folder / "futu.json"
    if not facts_file.exists():
        first, begun = indexes(), time.monotonic()
        live = first["similar"]
        live.keeper.wanted = wanted
        level(first)
        live.keeper.wait()
        taken = {"build_s": time.monotonic() - begun, "build_cpu_s": time.process_time()}
        begun = time.monotonic()
        live.save()
        facts_file.write_text(json.dumps(taken | {"save_s": time.monotonic() - begun}))
        first.close()
        del first, live
    facts = json.loads(facts_file.read_text())
    if "--build-only" in sys.argv:
        print(json.dumps(facts))
        return
    before, begun = resident_mb(), time.monotonic()
    used = indexes()
    used.load()
    facts["load_s"] = time.monotonic() - begun
    begun = time.monotonic()
    level(used)
    facts["level_s"] = time.monotonic() - begun
    live = used["similar"]
    live.keeper.wait()
    measure(facts, folder, vectors, live.index)
    facts["memory_mb"] = resident_mb() - before
    changes(facts, vectors, live)
    facts |= {"kind": live.index.kind, **live.index.parameters()}
    used.close()
    print(json.dumps(facts))


def measure(facts: dict[str, Any], folder: Path, vectors: Any, index: Any) -> None:
    given = np.load(folder / "queries.npz")
    rows, answers = given["rows"] + 1, given["answers"] + 1
    queries, k = np.asarray(vectors[given["rows"]], np.float32), answers.shape[1]

    def search(query: Any, k: int) -> Any:
        return index.search(query, k)[0]

    rounds = [recall_and_times(search, queries, rows, answers, k) for _ in range(5)]
    times = np.concatenate([found[1] for found in rounds])
    facts |= {
        "recall": rounds[0][0], "p50_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)),
    }  # fmt: skip
    few = np.random.default_rng(3).choice(len(vectors), 100, replace=False) + 1
    for share, name in (
        (None, "allowed_100_ms"),
        (0.5, "allowed_half_ms"),
        (0.1, "allowed_10th_ms"),
    ):
        allowed = np.sort(few) if share is None else np.arange(1, int(len(vectors) * share))
        search_in = functools.partial(index.search, k=10, allowed=allowed)
        facts[name] = timed(search_in, queries[:50])


def timed(search: Callable[[Any], Any], queries: Any) -> float:
    times = []
    for query in queries:
        begun = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) * 1e3


def changes(facts: dict[str, Any], vectors: Any, live: Any) -> None:
    new = np.roll(np.asarray(vectors[:_CHANGES]), 1, axis=1)
    ids, begun = np.arange(1, _CHANGES + 1) + len(vectors), time.monotonic()
    live.add(ids, new)
    facts["adds_s"] = _CHANGES / (time.monotonic() - begun)
    begun = time.monotonic()
    live.remove(ids)
    facts["removes_s"] = _CHANGES / (time.monotonic() - begun)


if __name__ == "__main__":
    main()
