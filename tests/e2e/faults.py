"""A cluster of real processes, each of which a test may kill, stop or cut off."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import redis
from tests.conftest import await_redis
from tests.e2e.conftest import free_port
from tests.e2e.proxy import Proxy

from futu.client import Client, Progress
from futu.errors import FutuError
from futu.jobs import embedded

LEASE_S = 1.0
SETTLE_S = 15.0


class Cluster:
    """Valkey behind a proxy, one controller, several compute servers; one folder for all.

    Args:
        folder: for the datasets, the data directory and the logs.
        compute: how many compute servers.
        program: what runs a compute server: arguments of Python.
        redis_host: an address of this machine; other than loopback there is no proxy.
        redis_password: for it.

    Attributes:
        prefixes: what stands before the command of a process, by its name.
    """

    def __init__(
        self,
        folder: Path,
        compute: int = 3,
        program: tuple[str, ...] = ("-m", "futu"),
        redis_host: str = "127.0.0.1",
        redis_password: str = "",
    ) -> None:
        self.prefixes: dict[str, list[str]] = {}
        self._redis_host = redis_host
        self._redis_password = redis_password
        self.folder = folder
        self.datasets = folder / "datasets"
        self.datasets.mkdir(parents=True, exist_ok=True)
        self._program = program
        self._redis_port = free_port()
        self.proxy = Proxy(self._redis_port)
        self.port = free_port()
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name == "FUTU_MODELS_DIR" or not name.startswith(("FUTU_", "REDIS_", "COMPUTE_"))
        } | {
            "REDIS_HOST": redis_host,
            "REDIS_PORT": str(self.proxy.port if redis_host == "127.0.0.1" else self._redis_port),
            "REDIS_PASSWORD": redis_password,
            "FUTU_LEASE_S": str(LEASE_S),
            "COMPUTE_WORKERS": "1",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.compute = [f"compute-{n}" for n in range(compute)]
        self._output = (folder / "output.log").open("ab")

    @property
    def redis_url(self) -> str:
        """Straight to the server, past the proxy."""
        password = f":{quote(self._redis_password)}@" if self._redis_password else ""
        return f"redis://{password}{self._redis_host}:{self._redis_port}/0"

    def start(self) -> None:
        """Start all and wait until all answer."""
        for name in ("redis", "controller", *self.compute):
            self.launch(name)
        self.until(lambda: len(self.health().get("compute_servers", ())) == len(self.compute))

    def launch(self, name: str) -> None:
        """Start one of the processes."""
        if name == "redis":
            command = [str(embedded.server_binary()), "--port", str(self._redis_port)]
            command += ["--bind", self._redis_host, "--save", "", "--appendonly", "no"]
            command += ["--requirepass", self._redis_password] if self._redis_password else []
            command += ["--dir", str(self.folder)]
        elif name == "controller":
            command = [sys.executable, "-m", "futu", "serve", "--host", "127.0.0.1"]
            command += ["--port", str(self.port)]
        else:
            command = [sys.executable, *self._program, "compute"]
        self.processes[name] = subprocess.Popen(
            [*self.prefixes.get(name, []), *command],
            cwd=self.folder,
            env=self.environment,
            stdout=self._output,
            stderr=self._output,
        )
        if name == "redis":
            await_redis(self.redis_url, self.processes[name])

    def kill(self, name: str) -> None:
        """kill -9, and wait for the end."""
        process = self.processes[name]
        process.kill()
        process.wait()

    def restart(self, name: str) -> None:
        """kill -9 and start again."""
        self.kill(name)
        self.launch(name)

    def suspend(self, name: str) -> None:
        """SIGSTOP."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def wake(self, name: str) -> None:
        """SIGCONT."""
        self.processes[name].send_signal(signal.SIGCONT)

    def health(self) -> dict[str, Any]:
        """GET /health, or nothing while the controller is away."""
        try:
            return self.client.health()
        except FutuError:
            return {}

    def progress(self, name: str) -> Progress | None:
        """The build's progress, or None while the controller is away."""
        try:
            return self.client.progress(name)
        except FutuError:
            return None

    def until(self, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Wait for a condition that another process brings about."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s\n{self.log_tail()}"
            time.sleep(0.05)

    def await_build(self, name: str, timeout_s: float) -> Progress:
        """Wait for a build that ends well."""
        last: list[Progress] = []

        def done() -> bool:
            progress = self.progress(name)
            if progress is not None:
                last[:] = [progress]
            return progress is not None and progress.status == "done"

        self.until(done, timeout_s)
        return last[0]

    def log_tail(self, lines: int = 60) -> str:
        """The end of the common log."""
        log = self.folder / "futu_backend.log"
        if not log.exists():
            return ""
        return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])

    def log_text(self) -> str:
        """The common log."""
        log = self.folder / "futu_backend.log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def images(self) -> list[tuple[str, str, str | None, bytes | None]]:
        """Path, state, error code and content hash of every image in the catalogue."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "catalogue.db")) as db:
            rows = db.execute("SELECT path, state, error_code, content_hash FROM images").fetchall()
        return [(os.fsdecode(path), state, code, digest) for path, state, code, digest in rows]

    def vectors(self) -> dict[bytes, np.ndarray[Any, Any]]:
        """Content hash -> vector; fails when a content has two."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "catalogue.db")) as db:
            rows = db.execute("SELECT content_hash, data FROM vectors").fetchall()
        found = {digest: np.frombuffer(data, "<f2").astype(np.float32) for digest, data in rows}
        assert len(found) == len(rows)
        return found

    def vector_count(self) -> int:
        """How many vectors the catalogue has; other than a build's counts, it never falls."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "catalogue.db")) as db:
            (count,) = db.execute("SELECT count(*) FROM vectors").fetchone()
        return int(count)

    def holds_a_job(self, name: str) -> bool:
        """Whether a compute server has leased a job of a dataset."""
        client = redis.Redis.from_url(self.redis_url)
        try:
            consumers: Any = client.xinfo_consumers("library", "compute")
        except redis.ResponseError:
            return False
        finally:
            client.close()
        ours = f"-{self.processes[name].pid}-"
        return any(one["pending"] and ours in one["name"].decode() for one in consumers)

    def assert_redis_is_clean(self, dead_letters: int = 0) -> None:
        """No job, lock, result or pending entry is left, after a moment to settle."""
        client = redis.Redis.from_url(self.redis_url)
        try:
            self.until(lambda: not self._leftovers(client), SETTLE_S)
            assert client.xlen("futu:dead") == dead_letters
        finally:
            client.close()

    def _leftovers(self, client: redis.Redis) -> list[str]:
        left = [key.decode() for key in client.scan_iter("lock:*")]
        left += [key.decode() for key in client.scan_iter("result:*")]
        for key in client.scan_iter(_type="stream"):
            if client.xlen(key) and key != b"futu:dead":
                left.append(key.decode())
            groups: Any = client.xinfo_groups(key)
            left += [f"{key.decode()} pending" for group in groups if group["pending"]]
        return left

    def close(self) -> None:
        """End everything."""
        for name, process in self.processes.items():
            with contextlib.suppress(ProcessLookupError):
                self.wake(name)
            process.kill()
            process.wait()
        self.proxy.close()
        self.client.close()
        self._output.close()
