"""One Valkey, and the workers and producers of each queue as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import redis
from benchmarks.environment import python_with
from benchmarks.peers import produce

from futu.jobs import embedded

GIVE_UP_S = 90.0
_REPOSITORY = Path(__file__).parents[2]
_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_START_S = 30.0
_MEASURE_S = 600.0
_MB = 1024 * 1024

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Contender:
    """A queue: its name and the Python that has it."""

    name: str
    python: str

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-m", f"benchmarks.peers.{self.name}_peer", *arguments]


class Bench:
    """One Valkey for all, emptied before each measure.

    Args:
        url: of the Valkey.
        safe: whether the others are to have the settings with which jobs survive their worker.
        log: where the others write what goes wrong.
    """

    def __init__(self, url: str, log: IO[bytes], *, safe: bool) -> None:
        self._url = url
        self._safe = safe
        self._log = log
        self._client = redis.Redis.from_url(url)

    def close(self) -> None:
        self._client.close()

    def server(self) -> str:
        """Name and version of the Valkey."""
        facts: Any = self._client.info("server")
        return f"{facts.get('server_name', 'redis')} {facts.get('valkey_version', '')}".strip()

    def round_trips(self, contender: Contender, count: int) -> list[float]:
        """Milliseconds of each."""
        self._client.flushall()
        with self._worker(contender, "round_trips"):
            return list(self._produce(contender, "round_trips", count))

    def rate(self, contender: Contender, count: int) -> float:
        """Jobs per second."""
        self._client.flushall()
        with self._worker(contender, "rate"):
            return float(self._produce(contender, "rate", count))

    def memory(self, contender: Contender, count: int) -> float:
        """MB more in Redis after so many jobs than after a first hundred."""
        self._client.flushall()
        with self._worker(contender, "rate"):
            self._produce(contender, "rate", 100)
            before = self._used_memory()
            self._produce(contender, "rate", count)
            return (self._used_memory() - before) / _MB

    def recovery(self, contender: Contender) -> float | None:
        """Seconds from kill -9 of the worker, with two jobs in hand, until all are done.

        None when they were not after ``GIVE_UP_S``.
        """
        self._client.flushall()
        with (
            self._worker(contender, "recovery") as first,
            self._started(contender, "recovery", "produce", "recovery", "0") as producer,
        ):
            for _ in range(2):
                if self._client.blpop([produce.STARTED_KEY], timeout=_START_S) is None:
                    raise TimeoutError("no job was begun")
            killed_at = time.monotonic()
            end(first)
            with self._worker(contender, "recovery"):
                try:
                    failed = producer.wait(GIVE_UP_S)
                except subprocess.TimeoutExpired:
                    return None
                took = time.monotonic() - killed_at
        if failed:
            raise RuntimeError(f"the producer ended with {failed}")
        return took

    def _used_memory(self) -> int:
        facts: Any = self._client.info("memory")
        return int(facts["used_memory"])

    def _worker(
        self, contender: Contender, measure: str
    ) -> contextlib.AbstractContextManager[Process]:
        return self._started(contender, measure, "work")

    def _produce(self, contender: Contender, measure: str, count: int) -> Any:
        with self._started(
            contender, measure, "produce", measure, str(count), stdout=subprocess.PIPE
        ) as process:
            out, _ = process.communicate(timeout=_MEASURE_S)
        if process.returncode:
            raise RuntimeError(f"the producer ended with {process.returncode}")
        return json.loads(out.splitlines()[-1])

    @contextlib.contextmanager
    def _started(
        self, contender: Contender, measure: str, *arguments: str, stdout: int | None = None
    ) -> Iterator[Process]:
        """A process of a contender until the block ends, then killed with its children."""
        environment = {
            **os.environ,
            "BENCHMARK_REDIS": self._url,
            "BENCHMARK_MEASURE": measure,
            "BENCHMARK_SAFE": "1" if self._safe else "",
        }
        process = subprocess.Popen(
            contender.command(*arguments),
            cwd=_REPOSITORY,
            env=environment,
            stdout=self._log if stdout is None else stdout,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)


def end(process: Process) -> None:
    """Kill -9 a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def peers_python(folder: Path) -> str:
    """The Python of an environment that has the peers, made when there is none."""
    return python_with(_REQUIREMENTS, folder)


def versions() -> tuple[str, str]:
    """What is measured: ours and the peers'."""
    ours = ", ".join(f"{name} {version(name)}" for name in ("redis", "hiredis"))
    return ours, ", ".join(_REQUIREMENTS.read_text().split())


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """The bundled Valkey, as a system of ours starts it; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="futu-jobs-") as folder:
        plan = embedded.plan(Path(folder))
        plan.prepare()
        process = subprocess.Popen(plan.command, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(plan.url)
        try:
            deadline = time.monotonic() + _START_S
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the bundled Valkey does not start")
                time.sleep(0.01)
            yield plan.url
        finally:
            client.close()
            process.terminate()
            process.wait()
            plan.cleanup()
