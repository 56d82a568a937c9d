"""Locks on jobs: ``lock:<job_id>``, with an owner and a TTL.

A stream entry already belongs to one worker at a time. The lock is for the job: should the same
job stand on a stream twice, because a message was repeated, only one of them is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from futu.jobs.exchange import Command, Exchange, Unread
from futu.jobs.scripts import LOCK_PREFIX


class JobLocks:
    """Locks by redis-py's own ``Lock``. Methods raise what redis-py raises.

    Args:
        client: the connection.
        exchange: the same, for several locks at once.
        ttl_s: a lock that is not extended for so long is gone, seconds.
    """

    def __init__(self, client: redis.Redis, exchange: Exchange, ttl_s: float) -> None:
        self._client = client
        self._exchange = exchange
        self._ttl_s = ttl_s
        self._asked: dict[str, Unread] = {}

    @property
    def ttl_ms(self) -> int:
        """Milliseconds until a lock that is not extended is gone."""
        return int(self._ttl_s * 1000)

    def acquire_lock(self, job_id: str, owner: str) -> bool:
        """Take the lock of a job without waiting; False when another has it."""
        return bool(self._lock(job_id).acquire(blocking=False, token=owner))

    def acquire_all(self, wanted: Sequence[tuple[str, str]]) -> list[bool]:
        """``acquire_lock`` for several (job id, owner) in one exchange with Redis.

        The command is the one that ``Lock.acquire`` sends.
        """
        if not wanted:
            return []
        replies = self._exchange.all(*map(self._taking, wanted), again=True)
        return [reply is not None for reply in replies]

    def ask(self, consumer: str, wanted: Sequence[tuple[str, str]]) -> None:
        """As ``acquire_all``, but nobody waits to learn whether the locks are the owners'.

        ``settle`` or ``then`` must follow for the consumer, before it asks again.
        """
        self._asked[consumer] = self._exchange.send(*map(self._taking, wanted))

    def settle(self, consumer: str) -> None:
        """Wait until the locks that were asked for, if any, are taken or refused."""
        if (asked := self._asked.pop(consumer, None)) is not None:
            self._exchange(after=asked, again=True)

    def then(self, consumer: str, *commands: Command, again: bool) -> list[Any]:
        """Do commands after the locks that were asked for, if any, are taken or refused.

        See ``Exchange``.
        """
        return self._exchange(*commands, again=again, after=self._asked.pop(consumer, None))

    def _taking(self, wanted: tuple[str, str]) -> Command:
        job_id, owner = wanted
        return ("SET", LOCK_PREFIX + job_id, owner, "NX", "PX", self.ttl_ms)

    def release_lock(self, job_id: str, owner: str) -> bool:
        """Give the lock back; False, and nothing changes, when it is not the owner's."""
        try:
            self._lock(job_id, owner).release()
        except LockError:
            return False
        return True

    def is_locked(self, job_id: str) -> bool:
        """Whether anyone has the lock of a job."""
        return bool(self._lock(job_id).locked())

    def owner(self, job_id: str) -> str | None:
        """Who has the lock of a job."""
        value = self._client.get(LOCK_PREFIX + job_id)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else None

    def _lock(self, job_id: str, owner: str | None = None) -> Lock:
        lock = Lock(self._client, LOCK_PREFIX + job_id, timeout=self._ttl_s, thread_local=False)
        if owner is not None:
            # The owner may be another process's thread or an earlier call: the token says who.
            lock.local.token = owner.encode()
        return lock
