"""Time of a second start: python -m benchmarks.restart --photos PHOTOS."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from benchmarks import system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    times = []
    with system.scratch(options.photos) as folder:
        with system.running(folder) as futu:
            system.index(futu.client, "gallery")
        for _ in range(options.rounds):
            with system.running(folder) as futu:
                vectors = futu.client.health()["index"]["vectors"]
                if vectors != len(system.pictures(folder / "datasets")):
                    raise RuntimeError(f"{vectors} vectors in the index")
                times.append(futu.ready_s)
    print(f"second start to healthy: median {median(times):.2f} s, {[round(t, 2) for t in times]}")
    print("(wanted <= 5)")


if __name__ == "__main__":
    main()
