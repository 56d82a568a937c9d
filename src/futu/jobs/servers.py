"""Compute servers make themselves known: ``futu:servers:<name>``, with a TTL.

What they measure stands apart, ``futu:measures:<name>``: a search reads the list of servers, and
has no use for it.
"""

from __future__ import annotations

import logging
import time
from typing import Any, TypeVar

import msgspec
import redis

from futu.errors import JobFailedError
from futu.jobs.connection import translated
from futu.jobs.exchange import Command, Exchange
from futu.jobs.message import SCHEMA_VERSION, ServerInfo, ServerMeasures, decode, encode
from futu.jobs.scripts import MEASURES_PREFIX, SERVER_PREFIX

log = logging.getLogger(__name__)

_SHORTEST_TTL_MS = 1000

_Known = TypeVar("_Known", bound=msgspec.Struct)


class ServerList:
    """The compute servers that are alive. Methods raise ``RedisUnavailableError``.

    Args:
        client: the connection.
        exchange: the same, for what is sent often.
        url: of Redis, for messages.
        ttl_s: a server that is silent for so long counts as gone, seconds.
    """

    def __init__(self, client: redis.Redis, exchange: Exchange, url: str, ttl_s: float) -> None:
        self._client = client
        self._exchange = exchange
        self._url = url
        self._strange: set[bytes | str] = set()
        self._ttl_ms = max(_SHORTEST_TTL_MS, int(ttl_s * 1000))

    def register(self, info: ServerInfo, measures: ServerMeasures | None = None) -> float:
        """Say that a server is alive, and what it has measured, in one exchange with Redis.

        Returns:
            How far this machine's clock is ahead of that of Redis, seconds; wrong by at most half
            of what the exchange took.
        """
        commands = [self.registration(info)]
        if measures is not None:
            key = MEASURES_PREFIX + info.server
            commands.append(("SET", key, encode(measures), "PX", self._ttl_ms))
        with translated(self._url):
            began = time.time()
            *_, (seconds, micros) = self._exchange.all(*commands, ("TIME",), again=True)
            ended = time.time()
        return (began + ended) / 2 - int(seconds) - int(micros) / 1e6

    def registration(self, info: ServerInfo) -> Command:
        """The command that ``register`` sends."""
        return ("SET", SERVER_PREFIX + info.server, encode(info), "PX", self._ttl_ms)

    def unregister(self, server: str) -> None:
        """Say goodbye."""
        with translated(self._url):
            self._client.delete(SERVER_PREFIX + server, MEASURES_PREFIX + server)

    def alive(self) -> list[ServerInfo]:
        """All servers that have not been silent for too long and that we can work with."""
        found = self._all(SERVER_PREFIX, ServerInfo)
        for server in found:
            if not server.fits and server.server not in self._strange:
                self._strange.add(server.server)
                log.error(
                    "compute server %s (version %s, schema %d) and this program (schema %d) do not "
                    "understand each other; it gets no jobs. Run one version everywhere.",
                    server.server, server.version, server.schema_version, SCHEMA_VERSION,
                )  # fmt: skip
        return [server for server in found if server.fits]

    def measures(self) -> list[ServerMeasures]:
        """What they have measured."""
        return self._all(MEASURES_PREFIX, ServerMeasures)

    def _all(self, prefix: str, kind: type[_Known]) -> list[_Known]:
        with translated(self._url):
            keys = list(self._client.scan_iter(match=prefix + "*", count=1000))
            values: Any = self._client.mget(keys) if keys else []
        found = []
        for key, value in zip(keys, values):
            if value is None:
                continue
            try:
                found.append(decode(value, kind))
            except JobFailedError as error:
                if key not in self._strange:
                    log.warning(
                        "%s counts as no compute server: %s", key.decode("utf-8", "replace"), error
                    )
                self._strange.add(key)
        return found
