"""Precision by class through the HTTP API: python -m benchmarks.quality --photos PHOTOS."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import system

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    photos = parser.parse_args().photos
    at_ten: list[float] = []
    at_one: list[float] = []
    with system.scratch(photos) as folder, system.running(folder) as futu:
        system.index(futu.client, "gallery")
        for query in system.pictures(photos / "query"):
            found = futu.client.search(query, top_k=K)
            hits = [r.fname.split("/")[0] == query.parent.name for r in found]
            at_ten.append(sum(hits) / K)
            at_one.append(float(hits[0]))
    print(f"{len(at_ten)} queries")
    print(f"precision@10 {sum(at_ten) / len(at_ten):.3f} (wanted >= 0.62)")
    print(f"precision@1  {sum(at_one) / len(at_one):.3f} (wanted >= 0.66)")


if __name__ == "__main__":
    main()
