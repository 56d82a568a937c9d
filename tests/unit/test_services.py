"""Services: which process is ours, how one is ended, what Redis is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from futu import config
from futu.errors import SettingsError
from futu.services import processes, redis_server
from futu.services.manager import Manager
from futu.services.probes import look
from futu.services.record import Record, Records, birth_of

WAITS = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
_DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
DEAF = [sys.executable, "-c", _DEAF + WAITS[2]]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.communicate()


def run(command: list[str], started: list[subprocess.Popen[bytes]]) -> psutil.Process:
    """A process that is up."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return psutil.Process(process.pid)


def record_of(process: psutil.Process, command: list[str]) -> Record:
    return Record("compute", process.pid, birth_of(process.pid), command, "redis://x", "1", "log")


def test_process_is_found_again_by_its_pid_file(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    process = run(WAITS, started)
    Records(tmp_path).write(record_of(process, WAITS))
    text = (tmp_path / "compute.pid").read_text()
    assert text.splitlines()[0] == str(process.pid)
    assert (tmp_path / "compute.pid").stat().st_mode & 0o077 == 0
    found = Records(tmp_path).read("compute")
    assert found is not None
    assert found.process() == process
    other_name = replace(found, command=["/another/python", *WAITS[1:]])
    assert other_name.process() == process


def test_other_program_with_the_pid_is_not_ours_and_never_signalled(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    process = run(WAITS, started)
    true = record_of(process, WAITS)
    said: list[str] = []
    manager = Manager(config.load(data_dir=tmp_path), said.append)
    manager.records.folder.mkdir()
    for reused in (
        replace(true, birth="another boot 1"),
        replace(true, command=[sys.executable, "-m", "futu", "compute"]),
    ):
        assert reused.process() is None
        manager.records.write(reused)
        assert look("compute", manager.records.read("compute"), "").state == "died"
        manager.stop(["compute"])
        assert said.pop() == f"compute: not running (the pid file of {process.pid} was left over)"
        assert manager.records.read("compute") is None
    assert process.is_running()
    assert process.status() != psutil.STATUS_ZOMBIE


def test_process_that_ended_is_not_running_even_as_a_zombie(
    started: list[subprocess.Popen[bytes]],
) -> None:
    process = run(WAITS, started)
    record = record_of(process, WAITS)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.status() == psutil.STATUS_ZOMBIE
    assert record.process() is None
    started[0].wait()
    assert record.process() is None


def test_damaged_pid_file_names_itself(tmp_path: Path) -> None:
    (tmp_path / "redis.pid").write_text("12\nnonsense")
    with pytest.raises(SettingsError, match=r"redis\.pid is damaged"):
        Records(tmp_path).read("redis")


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_birth_stays_the_same_and_differs_between_processes(
    platform: str, started: list[subprocess.Popen[bytes]]
) -> None:
    process = run(WAITS, started)
    assert birth_of(process.pid, platform) == birth_of(process.pid, platform)
    assert birth_of(process.pid, platform) != birth_of(os.getpid(), platform)


def test_process_is_asked_and_when_deaf_killed(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    stop_file = tmp_path / "stop"
    polite, deaf = run(WAITS, started), run(DEAF, started)
    assert processes.end(polite, stop_file, 20)
    assert not processes.end(deaf, stop_file, 0.1)
    assert not polite.is_running()
    assert not deaf.is_running()


def test_windows_service_is_detached_and_ends_by_a_file(
    tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processes.detached("win32") == {"creationflags": 0x8 | 0x200}
    assert processes.detached("linux") == {"start_new_session": True}
    stop_file = tmp_path / "compute.stop"
    code = (
        "import threading; from futu.services.processes import stop_with_file; "
        "stopped = threading.Event(); stop_with_file(stopped.set, 'win32'); "
        "print('up', flush=True); stopped.wait(); "
        f"open({str(tmp_path / 'ended')!r}, 'w').close()"
    )
    monkeypatch.setenv(processes.STOP_FILE_VARIABLE, str(stop_file))
    process = run([sys.executable, "-c", code], started)
    assert processes.end(process, stop_file, 20, "win32")
    assert (tmp_path / "ended").exists()  # by itself: nobody sent it a signal
    assert not stop_file.exists()
    deaf = run(WAITS, started)
    assert not processes.end(deaf, stop_file, 0.1, "win32")


def test_stop_file_is_looked_for_only_where_there_are_no_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processes.STOP_FILE_VARIABLE, str(tmp_path / "stop"))
    before = threading.active_count()
    processes.stop_with_file(lambda: None, "linux")
    assert threading.active_count() == before


def test_redis_is_told_secrets_in_a_private_file(tmp_path: Path) -> None:
    settings = config.load(redis_port=7, redis_password='a "secret" \\ 密')
    address = redis_server.address_of(settings)
    assert address is not None
    path = redis_server.write_config(address, tmp_path / "redis")
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "port 7\n" in text
    assert "bind 127.0.0.1 -::1\n" in text
    assert "secret" not in text  # hexadecimal, so that no character can end the line


def test_redis_with_a_user_shuts_the_default_one_out(tmp_path: Path) -> None:
    settings = config.load(redis_username="futu", redis_password="p")
    address = redis_server.address_of(settings)
    assert address is not None
    text = redis_server.write_config(address, tmp_path).read_text()
    assert "user default off\nuser futu on" in text


def test_redis_is_started_here_only_and_open_to_the_network_only_with_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert redis_server.address_of(config.load(redis_host="192.0.2.1")) is None
    ours = next(
        a.address
        for each in psutil.net_if_addrs().values()
        for a in each
        if a.family == socket.AF_INET
    )
    named = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (ours, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: named)
    with pytest.raises(SettingsError, match="REDIS_PASSWORD"):
        redis_server.address_of(config.load(redis_host="myself.example"))
    found = redis_server.address_of(config.load(redis_host="myself.example", redis_password="p"))
    assert found is not None
    assert ours in found.hosts
    with pytest.raises(SettingsError, match="without TLS"):
        redis_server.address_of(config.load(redis_url="rediss://:p@localhost:1/0"))


def test_redis_on_a_socket(tmp_path: Path) -> None:
    settings = config.load(redis_url=f"unix://{tmp_path}/r.sock")
    address = redis_server.address_of(settings)
    assert address is not None
    text = redis_server.write_config(address, tmp_path).read_text()
    assert "port 0\n" in text
    assert "unixsocketperm 700\n" in text
