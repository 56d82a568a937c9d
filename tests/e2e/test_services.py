"""service_manager.py as an operator uses it: from one shell, and from another."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.conftest import until
from tests.e2e.conftest import free_port

from futu import config
from futu.errors import ServiceError, SettingsError
from futu.jobs.connection import refuse_wrong_password
from futu.jobs.streams import JobQueue
from futu.services.manager import SERVICES, Manager
from futu.services.record import Records

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs service_manager.py, each time in a shell of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {"REDIS_PORT": str(free_port()), "REDIS_PASSWORD": 'a "p" \\ 密码'}
        self.records = Records(folder / "data" / "services")

    def __call__(
        self, *arguments: str, code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, str(ROOT / "service_manager.py"), *arguments]
        done = subprocess.run(
            ["sh", "-c", '"$@" </dev/null; exit $?', "sh", *program],
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            capture_output=True,
            text=True,
            timeout=100,
            start_new_session=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def start(self, service: str, *options: str, **how: Any) -> str:
        there = ("--host", "127.0.0.1", "--port", str(self.port))
        done = self("start", service, *there, *options, **how)
        return done.stdout + done.stderr

    def status(self, code: int, **environment: str) -> dict[str, dict[str, Any]]:
        found = json.loads(self("status", "--json", code=code, **environment).stdout)
        return {each["name"]: each for each in found}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    for name in SERVICES:
        record = made.records.read(name)
        process = None if record is None else record.process()
        if process is not None:
            process.kill()


def test_services_outlive_their_shell_and_another_one_sees_and_stops_them(shell: Shell) -> None:
    said = shell.start("all", "--workers", "1")
    token = (shell.folder / "data" / "api_token").read_text().strip()
    assert f"(shown once): {token}" in said
    # Another shell, which knows nothing of the password.
    found = shell.status(0, REDIS_PASSWORD="", REDIS_PORT="1")
    for name in SERVICES:
        assert (found[name]["state"], found[name]["health"]) == ("running", "healthy")
        assert found[name]["pid"] == int((shell.records.path(name)).read_text().splitlines()[0])
        assert found[name]["version"]
        assert found[name]["memory_bytes"] > 2**20
        assert 0 <= found[name]["uptime_s"] < 100
    compute = psutil.Process(found["compute"]["pid"])
    compute.kill()
    until(lambda: compute.status() == psutil.STATUS_ZOMBIE if compute.is_running() else True)
    found = shell.status(1)
    assert found["compute"]["state"] == "died"
    assert found["redis"]["health"] == "healthy"
    stopped = shell("stop", "all", REDIS_PASSWORD="").stdout.splitlines()
    assert [line.partition(",")[0].partition(" (")[0] for line in stopped] == [
        "controller: stopped",
        "compute: not running",
        "redis: stopped",
    ]
    assert [shell.records.read(name) for name in SERVICES] == [None, None, None]
    assert "ERROR" not in (shell.folder / "futu_backend.log").read_text()


def test_what_cannot_start_says_why_and_leaves_nothing_running(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_PORT", shell.environment["REDIS_PORT"])

    def manager(**given: object) -> Manager:
        there = {"host": "127.0.0.1", "port": shell.port, "data_dir": tmp_path / "data"}
        return Manager(config.load(**{**there, **given}), lambda _: None)

    with socket.create_server(("127.0.0.1", shell.port)):
        with pytest.raises(SettingsError, match="another program does"):
            manager().start(["controller"], False)
        with pytest.raises(SettingsError, match="choose another with REDIS_PORT"):
            manager(redis_port=shell.port).start(["redis"], False)
    with pytest.raises(SettingsError, match="without a token"):
        manager(host="0.0.0.0", config="production").start(["controller"], False)
    manager(redis_password="right").start(["redis"], False)
    with pytest.raises(ServiceError, match=r"refuses the password .*Set REDIS_PASSWORD"):
        manager(redis_password="wrong").start(["controller"], False)
    assert shell.records.read("controller") is None
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{shell.port}/health/live", trust_env=False)
    redis = shell.records.read("redis")
    assert redis is not None
    assert redis.process() is not None
    manager().stop(SERVICES)
    assert redis.process() is None


def test_acl_user_of_redis_is_all_that_futu_needs(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port = int(shell.environment["REDIS_PORT"])
    settings = config.load(redis_port=port, redis_username="futu", redis_password='a "p" \\ 密')
    Manager(settings, lambda _: None).start(["redis"], False)
    queue = JobQueue(settings.redis_address)
    queue.ping()
    assert queue.servers.alive() == []
    queue.close()
    refuse_wrong_password(settings.redis_address)
    for url in (f"redis://localhost:{port}/0", f"redis://futu:wrong@localhost:{port}/0"):
        with pytest.raises(SettingsError, match="refuses the password"):
            refuse_wrong_password(url)
    Manager(settings, lambda _: None).stop(["redis"])
