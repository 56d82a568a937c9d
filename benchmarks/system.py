"""A whole system in processes of its own, for the benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from futu.client import Client
from futu.errors import FutuError

_START_S = 60.0
_POLL_S = 0.1
_PROGRESS_S = 0.5  # asking more often takes the processor from what is measured


@dataclass
class Running:
    """A system that answers.

    Attributes:
        ready_s: seconds from the start of its process to healthy.
    """

    client: Client
    folder: Path
    ready_s: float


@contextlib.contextmanager
def scratch(photos: Path) -> Iterator[Path]:
    """A folder with the gallery as the dataset ``gallery``; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="futu-benchmark-") as name:
        shutil.copytree(photos / "gallery", Path(name) / "datasets" / "gallery")
        yield Path(name)


@contextlib.contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Futu on a folder, as ``both``, until the block ends; with further environment variables."""
    port = free_port()
    command = [sys.executable, "-m", "futu", "both", "--host", "127.0.0.1", "--port", str(port)]
    started = time.monotonic()
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("FUTU_", "REDIS_"))}
    environment |= settings or {}
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, env=environment)
    client = Client(f"http://127.0.0.1:{port}")
    try:
        await_servers(client, 1)
        yield Running(client, folder, time.monotonic() - started)
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def await_servers(client: Client, count: int) -> None:
    """Wait until all is well and so many compute servers are there."""
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(FutuError):
            health = client.health()
            if health["status"] == "healthy" and len(health["compute_servers"]) == count:
                return
        if time.monotonic() > deadline:
            raise TimeoutError("Futu is not healthy")
        time.sleep(0.01)


def await_idle() -> None:
    """Wait until the start is really over: models are loaded before they are asked for."""
    processes = psutil.Process().children(recursive=True)
    quiet = 0
    while quiet < 5:
        before = sum(sum(p.cpu_times()[:2]) for p in processes)
        time.sleep(_POLL_S)
        quiet = quiet + 1 if sum(sum(p.cpu_times()[:2]) for p in processes) - before < 0.03 else 0


def index(
    client: Client,
    name: str,
    questions: Sequence[str] | None = None,
    *,
    confirm_missing: bool = False,
) -> float:
    """Build a dataset; seconds from the request to done, as the build's record has it."""
    started = datetime.now(UTC)
    client.build_index([name], questions=questions, confirm_missing=confirm_missing)
    while (progress := client.progress(name)).status != "done":
        if progress.status == "error":
            raise RuntimeError(progress.message)
        time.sleep(_PROGRESS_S)
    last = next(build for build in client.builds() if build.dataset == name)
    return (datetime.fromisoformat(last.finished_at or "") - started).total_seconds()


def images_done(client: Client) -> int:
    """Pictures of library jobs that the compute servers have done."""
    return sum(int(s["images_done"]) for s in client.health()["compute_servers"])


def pictures(folder: Path) -> list[Path]:
    """All pictures of a folder, in a stable order."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
