"""A whole system under load: searches by upload and by id, also while pictures are indexed.

python -m benchmarks.load                   1 to 64 clients, then a queue that is full
python -m benchmarks.load --soak 60         one hour with 8 clients: is memory flat?

Controller, one compute server and Valkey as ``both`` runs them, on generated pictures. Clients ask
as soon as they are answered, half of them by upload, and run in a process of their own. The first
rounds, with nothing indexed, are what those with indexing are compared with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from benchmarks.system import Running, index, running
from PIL import Image

from futu.client import Client

_SIDE = 480
_STEP = 200
"""Pictures that are added at a time."""

_FULL_QUEUE = {"FUTU_QUEUE_BYTES": str(1024 * 1024), "FUTU_HTTP_THREADS": "64"}
_SOAK_CLIENTS = 8
_WARM_SHARE = 0.2


def picture(seed: int, side: int = _SIDE) -> Image.Image:
    """Soft noise: compresses as a photo does."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (side // 12, side // 12, 3), np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def fill(folder: Path, first: int, count: int) -> None:
    """Write pictures into a dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(number).save(folder / f"{number:07}.jpg", quality=90)


class Indexing:
    """Adds pictures and indexes them, again and again, until it is stopped."""

    def __init__(self, client: Client, folder: Path, first: int) -> None:
        self._client = Client(client.server)
        self._folder = folder
        self._next = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_safely)
        self._failure: Exception | None = None
        self.images = 0

    def __enter__(self) -> Indexing:
        fill(self._folder, self._next, _STEP)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()
        if self._failure is not None:
            raise self._failure

    def _run_safely(self) -> None:
        try:
            self._run()
        except Exception as error:
            self._failure = error  # raised where the block ends

    def _run(self) -> None:
        while not self._stop.is_set():
            index(self._client, self._folder.name, confirm_missing=True)
            self.images += _STEP
            self._next += _STEP
            # What was indexed goes, so that the dataset does not grow.
            for file in sorted(self._folder.iterdir())[:-_STEP]:
                file.unlink()
            fill(self._folder, self._next, _STEP)


def clients(
    port: int, count: int, seconds: float, ids: int, uploads: Path, share: float
) -> dict[str, Any]:
    """What so many clients in a process of their own saw."""
    arguments = [str(port), str(count), str(seconds), str(ids), str(uploads), str(share)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load_client", *arguments],
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown(found: dict[str, Any]) -> str:
    """A line of figures."""
    parts = [f"{found['per_s']:6.0f} searches/s"]
    for kind in ("id", "upload"):
        of = found[kind]
        parts.append(f"{kind} p50 {of['p50_ms']:.1f} p99 {of['p99_ms']:.1f} ms")
    return ", ".join([*parts, f"statuses {found['statuses']}, errors {found['errors']}"])


@contextlib.contextmanager
def system(folder: Path, images: int, environment: dict[str, str]) -> Iterator[tuple[Running, int]]:
    """The system with a dataset, and its port."""
    with running(folder, environment) as futu:
        if not (folder / "datasets" / "load").is_dir():
            fill(folder / "datasets" / "load", 0, images)
        index(futu.client, "load")
        yield futu, int(futu.client.server.rpartition(":")[2])


def steps(options: argparse.Namespace, folder: Path, uploads: Path) -> None:
    """1 to 64 clients, with nothing indexed and while it is."""
    quiet: dict[int, float] = {}
    with system(folder, options.images, {}) as (futu, port):
        for indexing in (False, True):
            with contextlib.ExitStack() as stack:
                work = None
                if indexing:
                    feed = folder / "datasets" / "feed"
                    work = stack.enter_context(Indexing(futu.client, feed, 10**6))
                for count in options.clients:
                    before = 0 if work is None else images_indexed(futu.client)
                    found = clients(port, count, options.seconds, options.images, uploads, 0.5)
                    line = f"{count:3} clients, {shown(found)}"
                    if work is None:
                        quiet[count] = found["per_s"]
                    else:
                        rate = (images_indexed(futu.client) - before) / found["seconds"]
                        ratio = found["per_s"] / quiet[count]
                        line += f", {rate:.0f} images/s indexed, searches / quiet {ratio:.2f}"
                    print(line, flush=True)
                    if found["errors"]:
                        raise SystemExit(f"{found['errors']} errors: {found['said']}")


def images_indexed(client: Client) -> int:
    """Pictures of datasets that compute servers have done."""
    return sum(int(server["images_done"]) for server in client.health()["compute_servers"])


def saturated(options: argparse.Namespace, folder: Path, uploads: Path) -> None:
    """64 clients upload into a queue that holds 1 MB: each is answered, or told to come later."""
    with system(folder, options.images, _FULL_QUEUE) as (_, port):
        found = clients(port, 64, options.seconds, options.images, uploads, 1.0)
    print(f"full queue, 64 clients uploading: {shown(found)}")
    told = found["statuses"].get("429", 0)
    print(f"  {told} of {found['searches']} were told to come later; without Retry-After "
          f"{found['without_retry_after']}")  # fmt: skip
    if found["errors"] or found["without_retry_after"] or not told:
        raise SystemExit(f"not clean: {found['said']}")


def soak(options: argparse.Namespace, folder: Path, uploads: Path) -> None:
    """Load for a long time; memory of every process, ten minutes or a tenth at a time."""
    total_s = options.soak * 60
    figure_s = min(600.0, total_s / 10)
    figures: list[dict[str, float]] = []
    with system(folder, options.images, {}) as (futu, port):
        feed = folder / "datasets" / "feed"
        with Indexing(futu.client, feed, 10**6):
            while len(figures) * figure_s < total_s:
                found = clients(port, _SOAK_CLIENTS, figure_s, options.images, uploads, 0.5)
                figures.append(memory_mb())
                sizes = ", ".join(f"{name} {mb:.0f} MB" for name, mb in figures[-1].items())
                print(
                    f"{len(figures) * figure_s / 60:5.1f} min: {sizes}; {shown(found)}", flush=True
                )
                if found["errors"]:
                    raise SystemExit(f"{found['errors']} errors: {found['said']}")
    warm = figures[int(_WARM_SHARE * len(figures)) :]
    half = max(1, len(warm) // 2)
    for name in figures[-1]:
        early = median(figure[name] for figure in warm[:half])
        late = median(figure[name] for figure in warm[-half:])
        print(f"{name}: later / earlier {late / early:.3f}")


def memory_mb() -> dict[str, float]:
    """Resident memory of the processes of the system."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            name = next((w for w in ("serve", "compute") if w in words), "")
            name = name or ("redis" if "valkey-server" in words[0] else "")
            if name:
                found[name] = process.memory_info().rss / 2**20
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="that are searched")
    parser.add_argument("--seconds", type=float, default=6, help="of each step")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="load for so long instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="futu-benchmark-") as name:
        folder, uploads = Path(name) / "futu", Path(name) / "uploads"
        fill(uploads, 5 * 10**6, 64)
        if options.soak:
            soak(options, folder, uploads)
        else:
            steps(options, folder, uploads)
            saturated(options, folder, uploads)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
