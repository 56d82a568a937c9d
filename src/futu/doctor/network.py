"""Checks of what other processes say: Redis, the controller, the compute servers, their clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from futu import __version__
from futu.client import Client
from futu.config import Settings
from futu.doctor import Finding, Level
from futu.errors import FutuError, SettingsError
from futu.jobs import embedded
from futu.jobs.connection import masked, probe, translated
from futu.jobs.message import ServerInfo, ServerMeasures
from futu.jobs.streams import JobQueue

_MOST_APART_S = 1.0
_SLOW_S = 0.02
_ANSWER_S = 5.0
_REDIS_REMEDY = (
    "Start it (./start.sh both brings its own; 'service_manager.py start redis'), or correct "
    "REDIS_HOST, REDIS_PORT, REDIS_PASSWORD or REDIS_URL."
)


def redis(settings: Settings) -> Iterator[Finding]:
    """Reachable, recent, willing to take our work; whose clocks differ; who serves."""
    url = settings.redis_address
    if not settings.redis_configured:
        own = settings.data_dir.absolute() / "redis" / "redis.sock"
        if not own.exists():
            yield from _bundled()
            return
        url = f"unix://{own}"
    queue = JobQueue(url)
    try:
        queue.ping()
        probe(queue.redis, url)
        facts = _facts(queue)
        version = facts.get("valkey_version") or facts["redis_version"]
        yield Finding("redis", "ok", f"{masked(url)}, version {version}")
        yield from _eviction(facts)
        yield from _clock(queue)
        yield from _servers(queue)
    except FutuError as error:
        yield Finding("redis", "error", error.message, _REDIS_REMEDY)
    finally:
        queue.close()


def _bundled() -> Iterator[Finding]:
    try:
        program = embedded.server_binary()
    except SettingsError as error:
        yield Finding(
            "redis", "error", error.message, "Install Redis 7 or Valkey and set REDIS_HOST."
        )
    else:
        text = f"none is configured: './start.sh both' runs its own ({program.name})"
        yield Finding("redis", "ok", text)


def _facts(queue: JobQueue) -> dict[str, Any]:
    with translated(queue.url):
        facts: Any = queue.redis.info()
    return dict(facts)


def _eviction(facts: dict[str, Any]) -> Iterator[Finding]:
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if int(facts.get("maxmemory", 0)) and policy != "noeviction":
        yield Finding(
            "redis",
            "warning",
            f"Redis forgets keys when its memory is full (maxmemory-policy {policy}): jobs and "
            "answers are lost and done again.",
            "Set maxmemory-policy noeviction, and give Futu a Redis of its own.",
        )


def _clock(queue: JobQueue) -> Iterator[Finding]:
    with translated(queue.url):
        began = time.time()
        seconds, micros = queue.redis.time()
        ended = time.time()
    took_s, ahead_s = ended - began, (began + ended) / 2 - seconds - micros / 1e6
    if took_s > _SLOW_S:
        yield Finding(
            "redis",
            "warning",
            f"An exchange with Redis takes {took_s * 1000:.0f} ms; a search by upload needs two.",
            "Put Redis near the controller, or mend the network.",
        )
    yield _apart("this machine", ahead_s)


def _apart(who: str, ahead_s: float) -> Finding:
    text = f"the clock of {who} is {abs(ahead_s):.2f} s {_side(ahead_s)} that of Redis"
    if abs(ahead_s) <= _MOST_APART_S:
        return Finding("clocks", "ok", text)
    return Finding(
        "clocks",
        "warning",
        f"{text}: logs and waiting times do not fit together.",
        "Run an NTP client (systemd-timesyncd, chrony) on all machines.",
    )


def _side(ahead_s: float) -> str:
    return "ahead of" if ahead_s >= 0 else "behind"


def _servers(queue: JobQueue) -> Iterator[Finding]:
    usable = {server.server: server for server in queue.servers.alive()}
    measures = {server.server: server for server in queue.servers.measures()}
    # Those of schema 3 measure nothing; those that we do not understand are not usable.
    servers: dict[str, ServerInfo | ServerMeasures] = {**usable, **measures}
    if not servers:
        yield Finding(
            "compute",
            "warning",
            "No compute server is registered in this Redis.",
            "./start.sh compute, with the same REDIS_* settings",
        )
    for name, server in servers.items():
        text = f"{server.server} on {server.host}, version {server.version}"
        if name not in usable:
            yield Finding(
                "compute",
                "error",
                f"{text}, and this version ({__version__}) do not understand each other.",
                "Run one version everywhere; compute servers first, then controllers.",
            )
        elif server.version != __version__:
            yield Finding(
                "compute",
                "warning",
                f"{text}; here it is {__version__}. They work together.",
                "Finish the upgrade: run one version everywhere.",
            )
        else:
            yield Finding("compute", "ok", text)
        measured = measures.get(name)
        if measured is not None and measured.clock_ahead_s is not None:
            yield _apart(name, measured.clock_ahead_s)


def controller(_: Settings, server: str | None) -> Iterator[Finding]:
    """What the controller says of itself."""
    with Client(server) as client:
        try:
            health = client.health()
        except FutuError as error:
            yield Finding("controller", "warning", error.message, "./start.sh both")
            return
        where = client.server
    status = str(health["status"])
    version = health.get("version")
    if version is None:
        yield Finding(
            "controller",
            "warning",
            f"{where} is {status} and shows no more than that.",
            "Set FUTU_API_TOKEN, or run this in the folder of the controller's data directory.",
        )
        return
    text = f"{where} is {status}, version {version}"
    if status == "healthy":
        yield Finding("controller", "ok", text)
    else:
        level: Level = "error" if status == "unavailable" else "warning"
        message = str(health.get("message", "see 'futu status'"))
        yield Finding("controller", level, f"{text}: {message}", "See 'futu status'.")
    if version != __version__:
        yield Finding(
            "controller",
            "warning",
            f"{where} is of version {version}, this command of {__version__}.",
            "Run one version everywhere.",
        )


def speaks_futu(settings: Settings) -> bool:
    """Whether what listens on the controller's port is a controller."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    try:
        url = f"http://{host}:{settings.port}/health/live"
        answer = httpx.get(url, timeout=_ANSWER_S, trust_env=False)
        return bool(answer.json() == {"status": "alive"})
    except (httpx.HTTPError, ValueError):
        return False
