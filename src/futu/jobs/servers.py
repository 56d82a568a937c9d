"""Compute servers make themselves known: ``futu:servers:<name>``, with a TTL."""

from __future__ import annotations

import logging
from typing import Any

import redis

from futu.errors import JobFailedError
from futu.jobs.connection import translated
from futu.jobs.exchange import Command, Exchange
from futu.jobs.message import ServerInfo, decode, encode
from futu.jobs.scripts import SERVER_PREFIX

log = logging.getLogger(__name__)

_SHORTEST_TTL_MS = 1000


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
        self._strange: set[bytes] = set()
        self._ttl_ms = max(_SHORTEST_TTL_MS, int(ttl_s * 1000))

    def register(self, info: ServerInfo) -> None:
        """Say that a server is alive."""
        with translated(self._url):
            self._exchange.one(*self.registration(info), again=True)

    def registration(self, info: ServerInfo) -> Command:
        """The command that ``register`` sends."""
        return ("SET", SERVER_PREFIX + info.server, encode(info), "PX", self._ttl_ms)

    def unregister(self, server: str) -> None:
        """Say goodbye."""
        with translated(self._url):
            self._client.delete(SERVER_PREFIX + server)

    def alive(self) -> list[ServerInfo]:
        """All servers that have not been silent for too long."""
        with translated(self._url):
            keys = list(self._client.scan_iter(match=SERVER_PREFIX + "*", count=1000))
            values: Any = self._client.mget(keys) if keys else []
        servers = []
        for key, value in zip(keys, values):
            if value is None:
                continue
            try:
                servers.append(decode(value, ServerInfo))
            except JobFailedError as error:
                if key not in self._strange:
                    log.warning(
                        "%s counts as no compute server: %s", key.decode("utf-8", "replace"), error
                    )
                self._strange.add(key)
        return servers
