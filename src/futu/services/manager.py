"""What service_manager.py does: services started apart from the shell, found again and stopped.

Started are Redis, then the compute server, then the controller; stopped in the opposite order,
each asked first and killed when its time is up. A service is ready when it answers.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from futu import __version__, production
from futu.config import Settings
from futu.controller.tokens import TOKEN_SHOWN
from futu.errors import RedisUnavailableError, ServiceError, SettingsError
from futu.jobs.streams import JobQueue
from futu.services import redis_server
from futu.services.probes import ready
from futu.services.processes import STOP_FILE_VARIABLE, end, spawn
from futu.services.record import Record, Records, birth_of

SERVICES = ("redis", "compute", "controller")

_READY_S = {"redis": 10.0, "compute": 120.0, "controller": 120.0}
_STOP_S = {"controller": 15.0, "compute": 20.0, "redis": 5.0}
_LOOK_S = 0.05
_LOCK_S = 150.0
_TAIL_LINES = 5


class Manager:
    """Services of one data directory.

    Args:
        settings: those given to what is started.
        say: gets one line for each thing done.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self.records = Records(settings.data_dir / "services")

    def start(self, wanted: Sequence[str], everything: bool) -> None:
        """Start services that do not run yet, and wait until they answer.

        Args:
            wanted: their names.
            everything: whether "all" was said: a Redis that is there already is then used.

        Raises:
            SettingsError: the settings are wrong, or production refuses them.
            ServiceError: a service ended at once, or does not answer.
        """
        for name in wanted:
            production.check(self._settings, name)
        with self._alone():
            for name in (n for n in SERVICES if n in wanted):
                self._start(name, everything)

    def stop(self, wanted: Sequence[str]) -> None:
        """Stop services that run. What is not ours is never signalled."""
        if not self.records.folder.is_dir():
            for name in wanted:
                self._say(f"{name}: not running")
            return
        with self._alone():
            for name in (n for n in reversed(SERVICES) if n in wanted):
                self._stop(name)

    def _start(self, name: str, everything: bool) -> None:
        record = self.records.read(name)
        process = None if record is None else record.process()
        if process is not None:
            self._say(f"{name}: already running, pid {process.pid}")
            return
        planned = self._redis(everything) if name == "redis" else self._futu(name)
        if planned is None:
            return
        command, url = planned
        log, stop_file = self.records.path(name, ".log"), self.records.path(name, ".stop")
        stop_file.unlink(missing_ok=True)
        environment = {**os.environ, **self._settings.environment()}
        environment[STOP_FILE_VARIABLE] = str(stop_file.absolute())
        started = time.monotonic()
        child = spawn(command, environment, log)
        record = Record(
            name, child.pid, birth_of(child.pid), command, url, __version__, str(log.absolute())
        )
        self.records.write(record)
        self._await(record, child, started + _READY_S[name])
        child.returncode = 0  # it stays; Popen would warn that nobody waits for it
        self._say(f"{name}: started, pid {child.pid}")
        for line in log.read_text("utf-8", "replace").splitlines():
            if line.startswith(TOKEN_SHOWN):
                self._say(line)

    def _futu(self, name: str) -> tuple[list[str], str]:
        settings = self._settings
        if name == "compute":
            return [sys.executable, "-m", "futu", "compute"], settings.redis_address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
        if _answers(host, settings.port):
            raise SettingsError(
                f"Cannot listen on {settings.host}:{settings.port}: another program does. Stop "
                "it, or choose another port with --port."
            )
        shown = f"[{host}]" if ":" in host else host
        return [sys.executable, "-m", "futu", "serve"], f"http://{shown}:{settings.port}"

    def _redis(self, everything: bool) -> tuple[list[str], str] | None:
        """How to start Redis; None: there is one already, here or elsewhere."""
        address, url = redis_server.address_of(self._settings), self._settings.redis_address
        if address is None:
            host = urlsplit(url).hostname
            if everything:
                self._say(f"redis: on another machine, {host}")
                return None
            raise SettingsError(
                f"REDIS_HOST is {host}, which is another machine. Start Redis there, or set "
                "REDIS_HOST to an address of this one."
            )
        if address.port and _answers("127.0.0.1", address.port):
            if not everything:
                raise SettingsError(
                    f"Another program listens on port {address.port}. Stop it, choose another "
                    "with REDIS_PORT, or, if it is your Redis, start the other services only."
                )
            queue = JobQueue(url)
            try:
                queue.ping()
            except RedisUnavailableError as error:
                raise SettingsError(f"{error.message} Or choose another REDIS_PORT.") from error
            finally:
                queue.close()
            self._say(f"redis: one that was not started here answers on port {address.port}; used")
            return None
        config = redis_server.write_config(address, self._settings.data_dir / "redis")
        return [redis_server.program(), str(config)], url

    def _await(self, record: Record, child: subprocess.Popen[bytes], deadline: float) -> None:
        """Wait until a service answers, for as long as its process runs."""
        while not ready(record):
            if child.poll() is not None:
                self.records.forget(record.name)
                raise ServiceError(
                    f"{record.name} ended at once (exit code {child.returncode}): "
                    f"{_tail(Path(record.log)) or 'its log is empty'}"
                )
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{record.name} runs, pid {record.pid}, and does not answer at "
                    f"{_place(record.url)} yet. See {record.log} and the log file; 'stop "
                    f"{record.name}' ends it."
                )
            time.sleep(_LOOK_S)

    def _stop(self, name: str) -> None:
        record = self.records.read(name)
        process = None if record is None else record.process()
        if process is None:
            stale = "" if record is None else f" (the pid file of {record.pid} was left over)"
            self._say(f"{name}: not running{stale}")
        elif end(process, self.records.path(name, ".stop"), _STOP_S[name]):
            self._say(f"{name}: stopped, pid {process.pid}")
        else:
            self._say(f"{name}: did not stop within {_STOP_S[name]:g} s and was killed")
        self.records.forget(name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = self.records.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "manager.lock", timeout=_LOCK_S):
                yield
        except Timeout:
            raise ServiceError(
                f"Another service_manager.py works on {folder.absolute()}. Wait until it is done."
            ) from None
        except OSError as error:
            raise SettingsError(
                f"The data directory {self._settings.data_dir.absolute()} cannot be written "
                f"({error.strerror}). Choose another with --data-dir, mend its permissions, or "
                "make room."
            ) from error


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()
    said = [line.removeprefix("futu: ") for line in lines if line.startswith("futu: ")]
    return "\n".join(said or lines[-_TAIL_LINES:])


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.hostname else parts.path
