"""Two compute servers of one thread against one: python -m benchmarks.scaling --photos PHOTOS."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import system

from futu.client import Client
from futu.jobs import embedded


@contextlib.contextmanager
def cluster(folder: Path, servers: int) -> Iterator[Client]:
    """Valkey, a controller and so many compute servers, until the block ends."""
    plan = embedded.plan(folder / "data")
    port = system.free_port()
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("FUTU_", "REDIS_"))}
    environment["REDIS_URL"] = plan.url
    serve = ["serve", "--host", "127.0.0.1", "--port", str(port)]
    modes = [serve, *([["compute", "--workers", "1"]] * servers)]
    commands = [plan.command, *([sys.executable, "-m", "futu", *mode] for mode in modes)]
    processes = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    client = Client(f"http://127.0.0.1:{port}")
    try:
        system.await_servers(client, servers)
        system.await_idle()  # the models that are in place are loaded at the start
        yield client
    finally:
        client.close()
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            process.wait()
        plan.cleanup()


def rate(photos: Path, servers: int) -> float:
    """Images/s of indexing the gallery from nothing."""
    with system.scratch(photos) as folder, cluster(folder, servers) as client:
        took = system.index(client, "gallery")
        done = client.progress("gallery").added
    return done / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="has gallery/")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for servers, found in rates.items():
            found.append(rate(options.photos, servers))
    for servers, found in rates.items():
        shown = ", ".join(f"{value:.0f}" for value in found)
        print(f"{servers} compute server(s) of one thread: {median(found):.1f} images/s  [{shown}]")
    ratios = sorted(two / one for one, two in zip(rates[1], rates[2]))
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"two / one: {median(ratios):.2f} (wanted >= 1.8)  [{shown}]")


if __name__ == "__main__":
    main()
