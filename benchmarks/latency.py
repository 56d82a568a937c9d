"""A query over HTTP against the bare call: python -m benchmarks.latency --photos PHOTOS."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from benchmarks import bare, system

from futu.index.faiss_index import FaissIndex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    queries = system.pictures(options.photos / "query")
    model = bare.extractor(os.cpu_count() or 1)
    index = FaissIndex(bare.SPEC.dimension)
    gallery = system.pictures(options.photos / "gallery")
    for number, path in enumerate(gallery):
        index.add(np.array([number], np.int64), model.extract(bare.pixels(path)[None]))
    http: list[float] = []
    alone: list[float] = []
    with system.scratch(options.photos) as folder, system.running(folder) as futu:
        system.index(futu.client, "gallery")
        for query in queries[:20]:
            futu.client.search(query)
        for _ in range(options.rounds):
            for query in queries:
                started = time.perf_counter()
                futu.client.search(query)
                between = time.perf_counter()
                index.search(model.extract(bare.pixels(query)[None])[0], 10)
                http.append((between - started) * 1000)
                alone.append((time.perf_counter() - between) * 1000)
    for name, values in (("HTTP", http), ("bare", alone)):
        p99 = quantiles(values, n=100)[98]
        print(f"{name}: p50 {median(values):.1f} ms, p99 {p99:.1f} ms over {len(values)} queries")
    print(f"difference of the p50s: {median(http) - median(alone):.1f} ms (wanted <= 8)")


if __name__ == "__main__":
    main()
