"""Rate of the whole system against a bare loop: python -m benchmarks.indexing --photos PHOTOS."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median

from benchmarks import bare, system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = system.pictures(options.photos / "gallery")
    simple, overlapped = bare.extractor(2), bare.side_by_side(os.cpu_count() or 1)
    rates: dict[str, list[float]] = {"futu": [], "one thread": [], "thread per core": []}
    for _ in range(options.rounds):
        rates["one thread"].append(bare.one_thread_loop(files, simple))
        rates["thread per core"].append(bare.thread_per_core(files, overlapped))
        with system.scratch(options.photos) as folder, system.running(folder) as futu:
            rates["futu"].append(len(files) / system.index(futu.client, "gallery"))
            before = system.images_done(futu.client)
            again_s = system.index(futu.client, "gallery")
            if system.images_done(futu.client) != before:
                raise RuntimeError("indexing again called the model")
    for name, values in rates.items():
        print(f"{name:16} {median(values):6.1f} images/s  {[round(v) for v in values]}")
    ours = median(rates["futu"])
    print(f"futu / one-thread loop      {ours / median(rates['one thread']):.2f} (wanted >= 0.6)")
    print(f"futu / thread-per-core loop {ours / median(rates['thread per core']):.2f}")
    print(f"indexing again: {again_s:.2f} s, no model call")


if __name__ == "__main__":
    main()
