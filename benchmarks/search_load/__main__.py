"""Searches by known images over HTTP, while images are added: python -m benchmarks.search_load

A controller in a process of its own, on a catalogue of generated images and vectors; 8 clients
in another, each asking as soon as it is answered; a third delivers new vectors through Valkey.
Against a bare Flask view under waitress on the same index, to which nothing is added.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx
import psutil
from benchmarks.peers.bench import valkey
from benchmarks.search_load import site
from benchmarks.system import free_port

_START_S = 120.0
_BUILD_S = 900.0
_LOOK_S = 2.0
_IDLE_PERCENT = 5.0
_MARGIN_S = 3.0
_FILTERS: dict[str, dict[str, object]] = {
    "no filter": {},
    "one dataset of four": {"dataset_names": ["set1"]},
    "half by date": {"after": "2014-08-15"},
    "1 % by path": {"path_prefix": "07/"},
    "0.5 % by date": {"after": "2014-07-01", "before": "2014-07-02"},
}


@contextlib.contextmanager
def process(command: list[str], port: int, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A server until the block ends."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("FUTU_", "REDIS_"))}
    started = subprocess.Popen(
        [sys.executable, "-m", *command], env={**clean, **environment}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _START_S
        while started.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                body = {"image_id": 1, "top_k": 1}
                url = f"http://127.0.0.1:{port}/api/search"
                if httpx.post(url, json=body, trust_env=False).is_success:
                    break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"{command} does not start")
        yield psutil.Process(started.pid)
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait()


def load(
    server: psutil.Process, port: int, options: argparse.Namespace, fields: dict[str, object]
) -> dict[str, float]:
    """What the clients measure, and the processor time that the server takes for a search."""
    seconds, images, clients = options.seconds, options.images, options.clients
    before = sum(server.cpu_times()[:2])
    arguments = [str(port), str(clients), str(seconds), str(images), json.dumps(fields)]
    command = [sys.executable, "-m", "benchmarks.search_load.client", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    found["cpu_ms"] = 1000 * (sum(server.cpu_times()[:2]) - before) / found["searches"]
    return found


def await_idle(server: psutil.Process) -> None:
    """Wait until an index that is built in the background is there."""
    deadline = time.monotonic() + _BUILD_S
    while server.cpu_percent(interval=_LOOK_S) > _IDLE_PERCENT:
        if time.monotonic() > deadline:
            raise TimeoutError("the index is not built")


def show(name: str, found: dict[str, float]) -> None:
    print(
        f"{name}: {found['per_s']:.0f} searches/s, p50 {found['p50_ms']:.1f} ms, "
        f"p99 {found['p99_ms']:.1f} ms, longest {found['max_ms']:.0f} ms, "
        f"{found['cpu_ms']:.2f} ms of a processor for each",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=float, default=200, help="images added per second")
    parser.add_argument("--filters", action="store_true", help="searches in narrower scopes too")
    parser.add_argument("--keep", type=Path, help="folder of the generated site, made if missing")
    options = parser.parse_args()
    feeding_s = options.seconds + _MARGIN_S
    added = int(options.rounds * options.rate * feeding_s)
    with tempfile.TemporaryDirectory(prefix="futu-benchmark-") as name, valkey() as redis_url:
        folder = options.keep or Path(name)
        if not (folder / "filled").exists():
            shutil.rmtree(folder, ignore_errors=True)
            site.fill(folder, options.images, added)
            (folder / "filled").touch()
        site.settings(folder)
        port, bare_port = free_port(), free_port()
        serve = ["futu", "serve", "--host", "127.0.0.1", "--port", str(port)]
        environment = site.environment(folder, redis_url)
        rounds = []
        with process(serve, port, environment) as server:
            await_idle(server)  # the index is made, which the bare one reads too
        bare = [
            "benchmarks.search_load.bare",
            str(folder),
            str(bare_port),
            str(options.images + added),
        ]
        for number in range(options.rounds):
            with process(serve, port, environment) as server:
                first = options.images + int(number * options.rate * feeding_s)
                arguments = [str(folder), redis_url, str(first), str(options.rate), str(feeding_s)]
                feed = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.search_load.feed", *arguments],
                    stdout=subprocess.PIPE,
                )
                under = load(server, port, options, {})
                out, _ = feed.communicate()
                show(f"futu, {float(out):.0f} images/s added", under)
                quiet = load(server, port, options, {})
                show("futu, nothing added", quiet)
                if options.filters and number == 0:
                    for what, fields in _FILTERS.items():
                        show(f"futu, {what}", load(server, port, options, fields))
            with process(bare, bare_port, {}) as server:
                alone = load(server, bare_port, options, {})
                show("bare", alone)
            rounds.append((under, quiet, alone))
    rate = median(under["per_s"] for under, _, _ in rounds)
    late = median(under["p99_ms"] for under, _, _ in rounds)
    print(f"while adding: {rate:.0f} searches/s (wanted >= 1000), p99 {late:.1f} ms (wanted <= 50)")
    print(f"  futu / bare {median(u['per_s'] / b['per_s'] for u, _, b in rounds):.2f}")
    print(f"nothing added, futu / bare {median(q['per_s'] / b['per_s'] for _, q, b in rounds):.2f}")
    ratio = median(q["cpu_ms"] / b["cpu_ms"] for _, q, b in rounds)
    print(f"  processor time, futu / bare {ratio:.2f}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
