"""A connection to the queue's Redis: what sending and leasing have in common."""

from __future__ import annotations

from typing import Any

from futu.errors import RedisUnavailableError
from futu.jobs import scripts
from futu.jobs.connection import connect, masked, translated
from futu.jobs.exchange import Exchange
from futu.jobs.locks import JobLocks
from futu.jobs.message import Stream
from futu.jobs.room import StreamRoom
from futu.jobs.servers import ServerList

MAX_WAITING: dict[Stream, int] = {"query": 256, "library": 1024, "inline": 256}
OLDEST_REDIS = (7, 0)

_LOCK_SHARE = 0.8
"""Of the lease time: a lock is gone before another worker may take the job over."""


def result_key(job_id: str) -> str:
    """Where the answer to a job waits."""
    return scripts.RESULT_PREFIX + job_id


class QueueConnection:
    """See ``JobQueue``."""

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = 5.0,
        result_ttl_s: float = 600.0,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.url = url
        self.lease_s = lease_s
        self.result_ttl_s = result_ttl_s
        self.max_bytes = max_bytes
        self.redis = connect(url)
        self._exchange = Exchange(self.redis)
        self.locks = JobLocks(self.redis, self._exchange, lease_s * _LOCK_SHARE)
        self.servers = ServerList(self.redis, self._exchange, url, lease_s)
        self._room = StreamRoom(self.redis, MAX_WAITING, max_bytes)
        self._version_known = False
        self._deliver = self.redis.register_script(scripts.DELIVER)
        self._touch = self.redis.register_script(scripts.TOUCH)
        self._drop = self.redis.register_script(scripts.DROP)
        self._heads = self.redis.register_script(scripts.HEADS)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()
        self.redis.close()

    def ping(self) -> None:
        """Ask Redis whether it is there and recent enough."""
        with translated(self.url):
            self.redis.ping()
        self.check_version()

    def check_version(self) -> None:
        """Refuse a Redis that is too old, once it is known."""
        if self._version_known:
            return
        with translated(self.url):
            facts: Any = self.redis.info("server")
        version = str(facts["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
            oldest = ".".join(map(str, OLDEST_REDIS))
            raise RedisUnavailableError(
                f"Redis at {masked(self.url)} is version {version}; Futu needs {oldest} or "
                "later, or any Valkey. Upgrade it, or set REDIS_HOST to another.",
                redis=masked(self.url),
                version=version,
            )
        self._version_known = True
