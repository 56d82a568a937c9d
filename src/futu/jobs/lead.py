"""The lead among controllers: ``futu:leader``, a lock with a TTL, and requests to who has it.

The lock finds out that a leader is gone. It does not keep a leader that was suspended from going
on when it wakes: the catalogue does, which refuses writes of an earlier term.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import Any

import msgspec
from redis.exceptions import LockError
from redis.lock import Lock

from futu.errors import NotLeadingError
from futu.jobs.connection import BLOCK_S, translated
from futu.jobs.message import decode, encode
from futu.jobs.streams import JobQueue

LEADER_KEY = "futu:leader"
REQUESTS_KEY = "futu:leader:requests"
_REQUEST_PREFIX = "futu:leader:request:"
_REPLY_PREFIX = "futu:leader:reply:"

_TTL_SHARE = 0.8
"""Of the lease time: another leads within the lease time, its own looking included."""


class Request(msgspec.Struct, frozen=True):
    """An HTTP request that the leader is to answer. ``path`` has the query with it."""

    method: str
    path: str
    content_type: str = ""
    body: bytes = b""
    request_id: str = ""


class Reply(msgspec.Struct, frozen=True):
    """Its answer."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = {}


class LeaderLock:
    """Which controller leads. Methods raise ``RedisUnavailableError``.

    Args:
        queue: the connection.
        lease_s: silence after which another takes the lead, seconds.

    Attributes:
        name: of this controller.
    """

    def __init__(self, queue: JobQueue, lease_s: float) -> None:
        self._queue = queue
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lock = Lock(queue.redis, LEADER_KEY, timeout=lease_s * _TTL_SHARE, thread_local=False)

    def take(self) -> bool:
        """Take the lead if nobody has it."""
        with translated(self._queue.url):
            return bool(self._lock.acquire(blocking=False, token=self.name))

    def keep(self) -> bool:
        """Begin the TTL anew; False when the lock has run out or is another's."""
        with translated(self._queue.url):
            try:
                return bool(self._lock.reacquire())
            except LockError:
                return False

    def release(self) -> None:
        """Let another lead."""
        with translated(self._queue.url):
            try:
                self._lock.release()
            except LockError:
                return

    def holder(self) -> str | None:
        """The name of the controller that leads."""
        with translated(self._queue.url):
            name = self._queue.redis.get(LEADER_KEY)
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else None


class LeaderCalls:
    """Requests to the leader and its replies; each waits a bounded time and leaves nothing behind.

    Args:
        queue: the connection.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def ask(self, request: Request, timeout_s: float) -> Reply:
        """Have the leader answer a request.

        Raises:
            NotLeadingError: nobody has within ``timeout_s``. A request that was not taken is not
                done later; one that was may be.
        """
        redis, call = self._queue.redis, secrets.token_hex(16)
        deadline = time.monotonic() + timeout_s
        with translated(self._queue.url):
            pipe = redis.pipeline(transaction=True)
            pipe.set(_REQUEST_PREFIX + call, encode(request), px=max(1, int(timeout_s * 1000)))
            pipe.lpush(REQUESTS_KEY, call)
            pipe.execute()
            while (left_s := deadline - time.monotonic()) > 0:
                reply: Any = redis.blpop([_REPLY_PREFIX + call], max(0.01, min(left_s, BLOCK_S)))
                if reply is not None:
                    return decode(reply[1], Reply)
            redis.delete(_REQUEST_PREFIX + call)
            redis.lrem(REQUESTS_KEY, 0, call)
        raise NotLeadingError(
            "The controller that leads has not answered. Another takes the lead within seconds: "
            "try again, and see /health."
        )

    def take(self, block_s: float) -> tuple[str, Request] | None:
        """The oldest request that is still waited for, and the name of its call."""
        redis = self._queue.redis
        with translated(self._queue.url):
            found: Any = redis.brpop([REQUESTS_KEY], max(0.01, min(block_s, BLOCK_S)))
            if found is None:
                return None
            call = found[1].decode("ascii", "replace")
            data: Any = redis.getdel(_REQUEST_PREFIX + call)
        return None if data is None else (call, decode(data, Request))

    def put_back(self, call: str, request: Request, ttl_s: float) -> None:
        """Leave a request that was taken to the next leader."""
        with translated(self._queue.url):
            pipe = self._queue.redis.pipeline(transaction=True)
            pipe.set(_REQUEST_PREFIX + call, encode(request), px=max(1, int(ttl_s * 1000)))
            pipe.rpush(REQUESTS_KEY, call)
            pipe.execute()

    def reply(self, call: str, reply: Reply, ttl_s: float) -> None:
        """Answer a request."""
        with translated(self._queue.url):
            pipe = self._queue.redis.pipeline(transaction=True)
            pipe.rpush(_REPLY_PREFIX + call, encode(reply))
            pipe.pexpire(_REPLY_PREFIX + call, max(1, int(ttl_s * 1000)))
            pipe.execute()
