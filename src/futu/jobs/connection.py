"""Connections to Redis: made in one place, with one set of timeouts, errors and backoff."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.retry import Retry

from futu.errors import RedisUnavailableError, SettingsError

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 5.0
"""Longest silence on a connection; every blocking read blocks for less."""

_PROBE_KEY = "futu:probe"

BLOCK_S = 2.0
"""Longest single blocking read."""


def connect(url: str) -> redis.Redis:
    """A client with a pool of connections. Nothing is sent until the first command."""
    return redis.Redis.from_url(
        url,
        protocol=2,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=30,
        # Once, at once: a connection that stood in the pool over a restart is dead at its first
        # use. Everything beyond that waits where the caller can be told (see Backoff).
        retry=Retry(NoBackoff(), 1),
    )


def masked(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


_REASONS: tuple[tuple[type[redis.RedisError], str, str], ...] = (
    (
        AuthenticationError,
        "refuses the password",
        "Set REDIS_PASSWORD (or REDIS_URL) to the server's",
    ),
    (NoPermissionError, "forbids a command", "Give Futu's Redis user all commands on all keys"),
    (ReadOnlyError, "is a read-only replica", "Set REDIS_HOST to the primary"),
    (BusyLoadingError, "is still loading its data", "Wait until it has"),
    (OutOfMemoryError, "is out of memory", "Raise its maxmemory, or give Futu a Redis of its own"),
)


def _explained(error: redis.RedisError) -> tuple[str, str]:
    """What is wrong with a server and what to do."""
    for kind, what, remedy in _REASONS:
        if isinstance(error, kind):
            return what, remedy
    text = str(error)
    # Inside a script, and at a connection's first command, only the text tells.
    if "OOM " in text:
        return _REASONS[4][1:]
    if "READONLY" in text:
        return _REASONS[3][1:]
    if "NOAUTH" in text or "WRONGPASS" in text:
        return _REASONS[0][1:]
    if isinstance(error, redis.ResponseError):
        return "refused a command", "Give Futu a Redis database of its own"
    return "does not answer", "Start it, or check REDIS_HOST, REDIS_PORT and REDIS_PASSWORD"


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the client's connection errors into ours.

    Raises:
        RedisUnavailableError: Redis is away, loading, read-only, out of memory or refuses us.
    """
    try:
        yield
    except redis.RedisError as error:
        what, remedy = _explained(error)
        raise RedisUnavailableError(
            f"Redis at {masked(url)} {what} ({error}). {remedy}.", redis=masked(url)
        ) from error


def probe(client: redis.Redis, url: str) -> None:
    """Write a key that is gone after a second.

    A Redis that is a replica or out of memory answers PING and refuses all work.

    Raises:
        RedisUnavailableError: it cannot be written.
    """
    with translated(url):
        client.set(_PROBE_KEY, b"", px=1000)


def refuse_wrong_password(url: str) -> None:
    """Say at the start that a password is wrong: trying again would not mend it.

    A Redis that does not answer is no fault of the settings; it may come.

    Raises:
        SettingsError: Redis answers, and refuses us.
    """
    client = connect(url)
    try:
        with translated(url):
            client.ping()
    except RedisUnavailableError as error:
        if _explained_by(error) == _REASONS[0][1:]:
            raise SettingsError(error.message) from error
    finally:
        client.close()


def _explained_by(error: RedisUnavailableError) -> tuple[str, str] | None:
    cause = error.__cause__
    return _explained(cause) if isinstance(cause, redis.RedisError) else None


class Outage:
    """Tells the log once that Redis is away and once that it is back, for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._down = False

    def began(self, error: RedisUnavailableError) -> None:
        """A thread cannot use Redis."""
        with self._lock:
            if not self._down:
                log.warning("%s Trying again until it works.", error)
            self._down = True

    def ended(self) -> None:
        """A thread has used Redis."""
        if self._down:
            with self._lock:
                if self._down:
                    log.info("redis is back")
                self._down = False


class Backoff:
    """Waits that double from ``first_s`` to ``most_s``, with jitter; ended early by an event."""

    def __init__(self, stop: threading.Event, first_s: float = 0.1, most_s: float = 5.0) -> None:
        self._stop = stop
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often ``wait`` was called since the last ``reset``."""
        return self._failures

    def reset(self) -> None:
        """What was tried has worked."""
        self._failures = 0

    def wait(self) -> None:
        """Wait before the next try."""
        longest = min(self._most_s, self._first_s * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        self._stop.wait(longest * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrets
