"""From files on disk to searchable: python -m benchmarks.extract --photos PHOTOS

Measured against bare loops, which do the same decoding and models with nothing around them,
overlapped in two ways and not overlapped; the best of them counts. With --torch also what the
replaced system ran, a ResNet-50 by torch, in an environment of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import bare, system
from benchmarks.environment import python_with

from futu.models.registry import spec

_PEERS = Path(__file__).parent / "peers"
_TORCH_IMAGES = 96
_WANTED, _WANTED_TORCH = 0.90, 15.0
_CASES = {
    "lite0": (("efficientnet-lite0",), ("similar",)),
    "lite0 + sscd-distilled": (("efficientnet-lite0", "sscd-distilled"), ("similar", "copy")),
}


def measure(photos: Path, case: str, rounds: int) -> dict[str, float]:
    """Images/s of each way, in turn; medians."""
    names, questions = _CASES[case]
    files = system.pictures(photos / "gallery")
    cores = os.cpu_count() or 1
    alone = [bare.extractor(cores, spec(name)) for name in names]
    shared = [bare.side_by_side(cores, spec(name)) for name in names]

    def whole() -> float:
        with system.scratch(photos) as folder, system.running(folder) as futu:
            system.await_idle()
            rate = len(files) / system.index(futu.client, "gallery", questions)
            before = system.images_done(futu.client)
            system.index(futu.client, "gallery", questions)
            if system.images_done(futu.client) != before:
                raise RuntimeError("indexing again called the model")
        return rate

    ways: dict[str, Callable[[], float]] = {
        "one thread": lambda: bare.one_thread_loop(files, alone),
        "decoders and model": lambda: bare.decoders_and_model(files, alone),
        "thread per core": lambda: bare.thread_per_core(files, shared),
        "futu": whole,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    print(f"\n{case}, {len(files)} photos, images/s, median of {rounds}")
    for name, rates in found.items():
        print(f"  {name:20} {median(rates):7.1f}  {[round(rate) for rate in rates]}", flush=True)
    # Each round by itself: what else the machine does changes from one to the next.
    ratios = [
        ours / max(found[name][n] for name in ways if name != "futu")
        for n, ours in enumerate(found["futu"])
    ]
    verdict = "met" if median(ratios) >= _WANTED else "MISSED"
    print(
        f"  futu / best bare loop {median(ratios):.2f}  {[round(r, 2) for r in ratios]}  "
        f"(wanted >= {_WANTED:.2f}: {verdict})"
    )
    return {name: median(rates) for name, rates in found.items()}


def resnet50(photos: Path, rounds: int) -> float:
    """Images/s of what the replaced system ran."""
    folder = Path(tempfile.gettempdir()) / "futu-benchmark-torch"
    python = python_with(_PEERS / "requirements-torch.txt", folder)
    script = _PEERS / "resnet50.py"
    command = [python, str(script), str(photos / "gallery"), str(_TORCH_IMAGES)]
    return median(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/ and query/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=list(_CASES), help="repeatable")
    parser.add_argument("--torch", action="store_true", help="also torch's ResNet-50")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    ours = {}
    for case in options.case or _CASES:
        ours[case] = measure(options.photos, case, options.rounds)["futu"]
    if options.torch:
        rate = resnet50(options.photos, options.rounds)
        print(f"\ntorch, ResNet-50, Pillow, batches of 32: {rate:.1f} images/s")
        for case, own in ours.items():
            verdict = "met" if own / rate >= _WANTED_TORCH else "MISSED"
            wanted = f"wanted >= {_WANTED_TORCH:.0f}: {verdict}"
            print(f"  futu, {case} / torch {own / rate:.1f} ({wanted})")
    print(f"\nload afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
