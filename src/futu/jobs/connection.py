"""Connections to Redis: made in one place, with one set of timeouts, errors and backoff."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis

from futu.errors import RedisUnavailableError

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 10.0
"""Longest silence on a connection; every blocking read blocks for less."""

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
    )


def masked(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the client's connection errors into ours.

    Raises:
        RedisUnavailableError: Redis is away, loading, read-only, out of memory or refuses us.
    """
    try:
        yield
    except redis.RedisError as error:
        raise RedisUnavailableError(
            f"Redis at {masked(url)} does not answer ({error}). Start it, or check REDIS_HOST, "
            "REDIS_PORT and REDIS_PASSWORD.",
            redis=masked(url),
        ) from error


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
