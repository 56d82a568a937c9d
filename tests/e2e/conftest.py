"""A whole Futu in processes of its own, as './start.sh both' runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from futu.client import Client, Progress
from futu.errors import FutuError

START_S = 30.0
BUILD_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class System:
    """Data directory, datasets folder and the processes on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datasets = folder / "datasets"
        self.datasets.mkdir(parents=True)
        self.port = free_port()
        self.log = folder / "futu_backend.log"
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self.http = httpx.Client(base_url=self.client.server, timeout=60, trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def start(self, mode: str = "both", wanted: str = "healthy") -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name == "FUTU_MODELS_DIR" or not name.startswith(("FUTU_", "REDIS_", "COMPUTE_"))
        }
        command = [sys.executable, "-m", "futu", mode, "--port", str(self.port), "--host"]
        self.process = subprocess.Popen(
            [*command, "127.0.0.1"], cwd=self.folder, env=environment | self.environment
        )
        self.await_health(wanted)

    def await_health(self, wanted: str) -> dict[str, Any]:
        deadline = time.monotonic() + START_S
        health: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                health = self.client.health()
                if health["status"] == wanted:
                    return health
            except FutuError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not {wanted} after {START_S} s: {health}\n{self.log_text()}")

    def log_text(self) -> str:
        return self.log.read_text("utf-8") if self.log.exists() else ""

    def index(self, name: str) -> Progress:
        self.client.build_index([name])
        return self.await_build(name)

    def await_build(self, name: str) -> Progress:
        deadline = time.monotonic() + BUILD_S
        while time.monotonic() < deadline:
            progress = self.client.progress(name)
            if progress.status in ("done", "error"):
                return progress
            time.sleep(0.05)
        raise AssertionError(f"build of {name} did not end: {progress}\n{self.log_text()}")

    def images_done(self) -> int:
        return sum(s["images_done"] for s in self.client.health()["compute_servers"])

    def child(self, word: str) -> psutil.Process:
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            parts = child.cmdline()
            if word in parts or f"/{word}" in parts[0]:
                return child
        raise AssertionError(f"no child process {word}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=15)
        self.process = None
        return code

    def close(self) -> None:
        self.stop()
        self.client.close()
        self.http.close()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system shared by tests that add datasets of their own."""
    running = System(tmp_path_factory.mktemp("futu"))
    running.start()
    yield running
    running.close()


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[System]:
    """A system for one test, not started."""
    own = System(tmp_path / "futu")
    yield own
    own.close()
