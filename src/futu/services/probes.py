"""How services are: whether they answer, and what they say of themselves."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import psutil

from futu.errors import FutuError
from futu.jobs.streams import JobQueue
from futu.services.record import Record

_ANSWER_S = 5.0

State = Literal["running", "died", "stopped"]


@dataclass(frozen=True)
class ServiceStatus:
    """What is known of a service.

    Attributes:
        name: of the service.
        state: ``died``: it was started, not stopped, and runs no more.
        pid: of its process.
        uptime_s: seconds since its start.
        health: ``healthy``, or what it says instead.
        version: of Futu, or of Redis.
        memory_bytes: resident, its children included.
    """

    name: str
    state: State
    pid: int | None = None
    uptime_s: float | None = None
    health: str = ""
    version: str = ""
    memory_bytes: int | None = None

    @property
    def fine(self) -> bool:
        """Whether it is as it should be."""
        return self.state == "stopped" or (self.state == "running" and self.health == "healthy")


def ready(record: Record) -> bool:
    """Whether a service that was just started answers."""
    return _alive(record.url) if record.name == "controller" else _said(record)[0] == "healthy"


def look(name: str, record: Record | None, token: str) -> ServiceStatus:
    """How a service is.

    Args:
        name: which.
        record: its pid file.
        token: with which the controller shows its version.
    """
    if record is None:
        return ServiceStatus(name, "stopped")
    process = record.process()
    if process is None:
        return ServiceStatus(
            name, "died", health=f"died: see {record.log} and the log file", version=record.version
        )
    health, version = _asked(record, token) if name == "controller" else _said(record)
    return ServiceStatus(
        name,
        "running",
        process.pid,
        max(0.0, time.time() - process.create_time()),
        health,
        version or record.version,
        _memory(process),
    )


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += int(each.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return total


def _alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=_ANSWER_S, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _asked(record: Record, token: str) -> tuple[str, str]:
    """Health and version of a controller."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(
            f"{record.url}/health", headers=headers, timeout=_ANSWER_S, trust_env=False
        )
        facts: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return f"silent: it does not answer at {record.url}", ""
    message = facts.get("message", "")
    health = str(facts.get("status", "unknown"))
    return f"{health}: {message}" if message else health, str(facts.get("version", ""))


def _said(record: Record) -> tuple[str, str]:
    """Health and version of Redis, or of a compute server, which says it in Redis."""
    queue = JobQueue(record.url)
    try:
        queue.ping()
        if record.name == "redis":
            facts: Any = queue.redis.info("server")
            return "healthy", str(facts.get("valkey_version") or facts["redis_version"])
        for server in queue.servers.alive():
            if server.pid == record.pid and server.host == socket.gethostname():
                return "healthy", server.version
        return "silent: it is not registered in Redis", ""
    except FutuError as error:
        return f"unavailable: {error.message}", ""
    finally:
        queue.close()
