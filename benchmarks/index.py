"""Our index against usearch and hnswlib, tuned to one recall: python -m benchmarks.index.

Vectors are clustered, from a seeded generator (see ``benchmarks.vectors``). Each engine runs in a
process of its own on the same file of vectors, the same queries and the same exact answers. Ours
takes vectors from a real catalogue (SQLite), as in a controller. What was built is kept in --folder
and used again by the next run, with the time that building took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.environment import python_with
from benchmarks.vectors import DIMENSION, clustered, exact_neighbours

_PEERS = ("hnswlib", "usearch")
_OURS = "futu"
_QUERIES = 300
_K = 10
_REQUIREMENTS = Path(__file__).parent / "peers" / "requirements-index.txt"
_HERE = Path(__file__).parent / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,200000,1000000")
    parser.add_argument("--engines", default=",".join((_OURS, *_PEERS)))
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--folder", type=Path, default=Path("index-benchmark"))
    parser.add_argument("--build-only", action="store_true", help="build, and measure nothing")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    peers_python = python_with(_REQUIREMENTS, given.folder / "environment")
    measured: dict[int, dict[str, dict[str, Any]]] = {}
    for size in map(int, given.sizes.split(",")):
        folder = prepared(given.folder / str(size), size)
        for engine in given.engines.split(","):
            python = sys.executable if engine == _OURS else peers_python
            script = "index_futu.py" if engine == _OURS else "index_peer.py"
            command = [python, str(_HERE / script), engine, str(folder), str(given.recall)]
            if given.build_only:
                command.append("--build-only")
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            facts = json.loads(done.stdout.splitlines()[-1])
            measured.setdefault(size, {})[engine] = facts
            print(f"{size:,} {engine}: {facts}", flush=True)
    if not given.build_only:
        for size, found in measured.items():
            table(size, found)
        growth(measured)


def prepared(folder: Path, size: int) -> Path:
    """Vectors, queries (some of the vectors) and exact answers, made once."""
    folder.mkdir(exist_ok=True)
    if not (folder / "vectors.npy").exists():
        np.save(folder / "vectors.npy", clustered(size))
    if not (folder / "queries.npz").exists():
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        rows = np.sort(np.random.default_rng(5).choice(size, _QUERIES, replace=False))
        answers = exact_neighbours(vectors, rows, _K)
        np.savez(folder / "queries.npz", rows=rows, answers=answers)
    return folder


def table(size: int, found: dict[str, dict[str, Any]]) -> None:
    names = list(found)
    print(f"\n{size:,} x {DIMENSION}, one query at a time, recall@10 as measured")
    for what in ("recall", "p50_ms", "p99_ms", "memory_mb", "build_s", "adds_s", "removes_s"):
        values = "  ".join(f"{name} {found[name][what]:,.4g}" for name in names)
        print(f"  {what:10} {values}")
    if _OURS in found:
        for name in names:
            if name != _OURS:
                slower = found[_OURS]["p50_ms"] / found[name]["p50_ms"]
                more = found[_OURS]["memory_mb"] / found[name]["memory_mb"]
                print(f"  futu / {name}: p50 {slower:.2f}, memory {more:.2f}")


def growth(measured: dict[int, dict[str, dict[str, Any]]]) -> None:
    """The cost as a collection grows; ten millions by arithmetic, from the greatest size."""
    rows = [(size, found[_OURS]) for size, found in measured.items() if _OURS in found]
    if not rows:
        return
    print("\nfutu: cost as it grows")
    for size, facts in rows:
        print(f"  {size:>10,}  {facts['p50_ms']:.2f} ms, {facts['memory_mb']:,.0f} MB")
    size, last = rows[-1]
    # A graph's search goes by the logarithm of the size, memory by the size.
    times = np.log(10_000_000) / np.log(size)
    bytes_each = last["memory_mb"] / size
    print(
        f"  10,000,000  {last['p50_ms'] * times:.2f} ms, {bytes_each * 10_000_000:,.0f} MB "
        f"(by arithmetic from {size:,}: {bytes_each * 1e6:,.0f} bytes a vector, log of the size)"
    )


if __name__ == "__main__":
    main()
