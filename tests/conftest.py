"""A real Valkey for every test that needs Redis."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from futu.errors import RedisUnavailableError
from futu.jobs import embedded
from futu.jobs.connection import connect
from futu.jobs.streams import JobQueue

T = TypeVar("T")

SEEDS = 2
SOAK_SEEDS = 10
_FAULT_RUN = "test_faults_lose_no_image"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", action="store_true", help=f"only the fault runs, with {SOAK_SEEDS} seeds"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        soak = metafunc.config.getoption("--soak")
        metafunc.parametrize("seed", range(SOAK_SEEDS if soak else SEEDS))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        left_out = [item for item in items if not item.name.startswith(_FAULT_RUN)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.name.startswith(_FAULT_RUN)]


def until(condition: Callable[[], T | None], timeout_s: float = 20.0) -> T:
    """What a condition says as soon as it is true; another thread or process brings it about."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.01)
    return found


def await_redis(url: str, process: subprocess.Popen[bytes]) -> None:
    queue = JobQueue(url)
    try:
        while process.poll() is None:
            try:
                queue.ping()
                return
            except RedisUnavailableError:
                continue
    finally:
        queue.close()
    raise AssertionError(f"the server at {url} ended with exit code {process.returncode}")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey of our own."""
    plan = embedded.plan(tmp_path_factory.mktemp("valkey"))
    process = subprocess.Popen(plan.command, stdout=subprocess.DEVNULL)
    await_redis(plan.url, process)
    yield plan.url
    process.terminate()
    process.wait()
    plan.cleanup()


@pytest.fixture
def redis_url(valkey: str) -> str:
    """The same, emptied: it is ours."""
    client = connect(valkey)
    client.flushall()
    client.close()
    return valkey
