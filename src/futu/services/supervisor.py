"""'both': Redis, controller and compute server as processes of their own, watched and restarted.

Shutdown order, stated once: the controller first (no new work), then the compute server (finishes
the jobs in hand), then Redis. Each is asked with SIGTERM and killed when its time is up; all
together stay under 5 seconds.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from futu.config import Settings
from futu.errors import RedisUnavailableError, SettingsError
from futu.jobs import embedded
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

SUPERVISED_VARIABLE = "FUTU_SUPERVISED"
EXIT_SETTINGS = 2

_STABLE_S = 30.0
_FIRST_BACKOFF_S = 0.5
_MOST_BACKOFF_S = 30.0
_REDIS_START_S = 10.0
_STOP_S = {"controller": 2.0, "compute": 1.7, "redis": 0.8}


@dataclass
class _Child:
    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Supervisor:
    """Runs the processes of one machine until ``stop``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._children: list[_Child] = []

    def stop(self) -> None:
        """Ask ``run`` to end. Safe in a signal handler."""
        self._stopping.set()
        self._events.put("")

    def run(self) -> int:
        """Start all, restart what dies, stop all in order.

        Returns:
            The exit code: 0 after ``stop``, that of a child whose settings are wrong.

        Raises:
            SettingsError: the data directory is in use or not writable, or no Redis can be had.
        """
        settings = self._settings
        lock = FileLock(settings.data_dir / "supervisor.lock")
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise SettingsError(
                f"Futu is already running on the data directory {settings.data_dir.absolute()}."
            ) from None
        except OSError as error:
            raise SettingsError(
                f"The data directory {settings.data_dir.absolute()} cannot be written "
                f"({error.strerror}). Choose another with --data-dir."
            ) from error
        redis = None if settings.redis_configured else embedded.plan(settings.data_dir)
        try:
            return self._run(redis)
        finally:
            self._stop_all()
            if redis is not None:
                redis.cleanup()
            lock.release()

    def _run(self, redis: embedded.EmbeddedRedis | None) -> int:
        environment = {**os.environ, **self._settings.environment(), SUPERVISED_VARIABLE: "1"}
        if redis is not None:
            redis.prepare()
            environment["REDIS_URL"] = redis.url
            self._launch(_Child("redis", redis.command, dict(os.environ)))
            self._await_redis(redis.url)
        for name, mode in (("compute", "compute"), ("controller", "serve")):
            command = [sys.executable, "-m", "futu", mode]
            self._launch(_Child(name, command, environment))
        while not self._stopping.is_set():
            name = self._events.get()
            if self._stopping.is_set():
                break
            child = next(c for c in self._children if c.name == name)
            code = child.process.returncode if child.process else None
            if code == EXIT_SETTINGS:
                # It has said what is wrong; the same settings would fail again.
                log.error("%s cannot run with these settings; stopping", name)
                return EXIT_SETTINGS
            self._restart_later(child, code)
        return 0

    def _await_redis(self, url: str) -> None:
        client = JobQueue(url)
        deadline = time.monotonic() + _REDIS_START_S
        try:
            while not self._stopping.is_set():
                try:
                    client.ping()
                    return
                except RedisUnavailableError:
                    if time.monotonic() > deadline:
                        raise
                    self._stopping.wait(0.02)
        finally:
            client.close()

    def _launch(self, child: _Child) -> None:
        with child.lock:
            if self._stopping.is_set():
                return
            child.started_at = time.monotonic()
            # A session of its own: Ctrl-C reaches only us, and we stop the others in order. Its
            # standard input is a pipe that closes when we die, however we die.
            child.process = subprocess.Popen(
                child.command,
                env=child.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if child.name == "redis" else None,
                start_new_session=True,
            )
        if child not in self._children:
            self._children.append(child)
        log.info("started %s, pid %d", child.name, child.process.pid)
        process = child.process
        threading.Thread(target=self._watch, args=(child, process), daemon=True).start()

    def _watch(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put(child.name)

    def _restart_later(self, child: _Child, code: int | None) -> None:
        if time.monotonic() - child.started_at > _STABLE_S:
            child.failures = 0
        delay = min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2**child.failures)
        child.failures = min(child.failures + 1, 16)
        log.error("%s ended unexpectedly (exit code %s); again in %.1f s", child.name, code, delay)

        def later() -> None:
            if not self._stopping.wait(delay):
                self._launch(child)

        threading.Thread(target=later, daemon=True).start()

    def _stop_all(self) -> None:
        self._stopping.set()
        for name in ("controller", "compute", "redis"):
            for child in self._children:
                if child.name == name:
                    self._stop_one(child)

    def _stop_one(self, child: _Child) -> None:
        with child.lock:
            process = child.process
            if process is None or process.poll() is not None:
                return
            process.terminate()
            try:
                process.wait(_STOP_S[child.name])
                log.info("stopped %s", child.name)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                log.warning("%s did not stop in time and was killed", child.name)


def stop_with_parent(stop: Callable[[], None]) -> None:
    """In a supervised child: stop when the supervisor is gone, however it went."""
    if SUPERVISED_VARIABLE not in os.environ:
        return

    def watch() -> None:
        # Not sys.stdin: its lock, held by this thread, would make the interpreter's end fail.
        while os.read(0, 4096):
            pass
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
