"""Our job queue against Celery, dramatiq and taskiq, on one Valkey: python -m benchmarks.jobs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import redis
from benchmarks.peers.produce import SLOW_JOBS, SLOW_S, STARTED_KEY

from futu.jobs import embedded

_PEERS = ("celery", "dramatiq", "taskiq")
_REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"
_GIVE_UP_S = 90.0
_IDEAL_S = SLOW_S * SLOW_JOBS / 2
_MB = 1024 * 1024


@dataclass(frozen=True)
class Contender:
    """A queue: the Python that has it and the module that drives it."""

    name: str
    python: str

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-m", f"benchmarks.peers.{self.name}_peer", *arguments]


class Bench:
    """One Valkey for all, emptied before each measure."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._environment = {**os.environ, "BENCHMARK_REDIS": url}

    def close(self) -> None:
        self._client.close()

    def used_memory(self) -> int:
        facts: Any = self._client.info("memory")
        return int(facts["used_memory"])

    @contextlib.contextmanager
    def worker(self, contender: Contender) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start_worker(contender)
        try:
            yield process
        finally:
            end(process)

    def start_worker(self, contender: Contender) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            contender.command("work"),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def produce(self, contender: Contender, measure: str, count: int) -> Any:
        done = subprocess.run(
            contender.command("produce", measure, str(count)),
            env=self._environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def measure(self, contender: Contender, measure: str, count: int) -> Any:
        self._client.flushall()
        with self.worker(contender):
            return self.produce(contender, measure, count)

    def memory(self, contender: Contender, count: int) -> float:
        """MB more in Redis after so many jobs than after a first hundred."""
        self._client.flushall()
        with self.worker(contender):
            self.produce(contender, "rate", 100)
            before = self.used_memory()
            self.produce(contender, "rate", count)
            return (self.used_memory() - before) / _MB

    def recovery(self, contender: Contender) -> float | None:
        """Seconds from kill -9 of the worker, with two jobs in hand, until all are done."""
        self._client.flushall()
        self._environment["BENCHMARK_SLOW"] = "1"
        worker = self.start_worker(contender)
        producer = subprocess.Popen(
            contender.command("produce", "recovery", "0"),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 30
            while int(self._client.get(STARTED_KEY) or 0) < 2:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{contender.name} did not begin its jobs")
                time.sleep(0.02)
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            started = time.monotonic()
            worker = self.start_worker(contender)
            try:
                producer.wait(_GIVE_UP_S)
            except subprocess.TimeoutExpired:
                return None
            if producer.returncode:
                raise RuntimeError(f"the producer of {contender.name} failed")
            return time.monotonic() - started
        finally:
            producer.kill()
            producer.wait()
            end(worker)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def peers_python(folder: Path) -> str:
    """The Python of an environment that has the peers, made when there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(_REQUIREMENTS)]
    subprocess.run(install, check=True)
    return str(python)


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """A Valkey of our own. On TCP, since not all of the others speak to Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="futu-jobs-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [
            str(embedded.server_binary()),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        client = redis.Redis(port=port)
        try:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.01)
            client.close()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def report(title: str, wanted: str, figures: dict[str, float], *, more_is_better: bool) -> None:
    """Print a measure with our ratio to the best of the others."""
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:10} {value:10.2f}")
    others = [value for name, value in figures.items() if name != "futu"]
    if others:
        ratio = figures["futu"] / max(others) if more_is_better else min(others) / figures["futu"]
        print(f"  futu is {ratio:.1f} times as good as the best other")
    print(f"  wanted: {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="round trips")
    parser.add_argument("--jobs", type=int, default=10_000, help="no-op jobs")
    parser.add_argument("--peers", default=",".join(_PEERS), help="which others; '' for none")
    default = Path(tempfile.gettempdir()) / "futu-benchmark-peers"
    parser.add_argument("--peers-env", type=Path, default=default, help="their environment")
    parser.add_argument("--skip-recovery", action="store_true")
    options = parser.parse_args()
    names = [name for name in options.peers.split(",") if name]
    python = peers_python(options.peers_env) if names else ""
    contenders = [Contender("futu", sys.executable), *(Contender(n, python) for n in names)]
    with valkey() as url:
        bench = Bench(url)
        trips = {c.name: bench.measure(c, "round_trips", options.rounds) for c in contenders}
        p50 = {name: median(values) for name, values in trips.items()}
        wanted = "p50 <= 1.0 ms and >= 4 times the best other"
        report("round trip, 50 kB there, 2 kB back, p50, ms", wanted, p50, more_is_better=False)
        p99 = {name: quantiles(values, n=100)[98] for name, values in trips.items()}
        report("the same, p99, ms", "-", p99, more_is_better=False)
        rates = {c.name: bench.measure(c, "rate", options.jobs) for c in contenders}
        wanted = ">= 3,000/s and >= 3 times the best other"
        report("no-op jobs with results, per second", wanted, rates, more_is_better=True)
        print(f"\nRedis memory after {options.jobs} jobs, MB more than before (wanted: futu <= 1)")
        for contender in contenders:
            print(f"  {contender.name:10} {bench.memory(contender, options.jobs):10.2f}")
        if not options.skip_recovery:
            print(
                f"\nkill -9 with two {SLOW_S:.0f} s jobs in hand and four waiting, s until all done"
            )
            print(f"  ideal {_IDEAL_S:.0f} s; wanted: futu <= {_IDEAL_S + 8:.0f} s")
            for contender in contenders:
                took = bench.recovery(contender)
                shown = f"not within {_GIVE_UP_S:.0f}" if took is None else f"{took:.1f}"
                print(f"  {contender.name:10} {shown}", flush=True)
        bench.close()


if __name__ == "__main__":
    main()
