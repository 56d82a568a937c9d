"""Several commands in one exchange with Redis, at the least cost.

redis-py's commands and pipelines spend some 20 to 50 microseconds each on bookkeeping around the
connection, which is half of a job's way there and back. This uses its connections directly: they
time out, authenticate and check their health as elsewhere.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any, NamedTuple

import redis

Command = tuple[bytes | str | float, ...]

_FRESH_S = 0.5
"""A connection used within so long is not asked whether it has been closed meanwhile."""


class Unread(NamedTuple):
    """A connection by which commands were sent whose replies nobody has read yet."""

    connection: Any
    sent_at: float
    unread: int


class Exchange:
    """Sends commands together and reads their replies. Safe for several threads.

    Args:
        client: whose pool makes the connections, and closes them.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._idle: deque[tuple[Any, float]] = deque()
        self._closed = False

    def close(self) -> None:
        """Send nothing again; the pool's owner closes the connections."""
        self._closed = True

    def __call__(self, *commands: Command, again: bool, after: Unread | None = None) -> list[Any]:
        """Do commands in order.

        Args:
            commands: each the words of one.
            again: whether all may be sent once more when the connection fails; nobody then knows
                whether the first time had arrived.
            after: what ``send`` returned: these commands go the same way, so that Redis does them
                later, and the replies to those are thrown away.

        Returns:
            The replies as Redis gave them, unparsed; an error is a ``redis.ResponseError``
            among them.

        Raises:
            redis.ConnectionError, redis.TimeoutError: no replies.
        """
        packed = _packed(commands)
        connection, sent_at, unread = after or (self._take(), 0.0, 0)
        try:
            try:
                if unread and time.monotonic() - sent_at > _FRESH_S:
                    _read(connection, unread)  # before a health check takes theirs for its own
                    unread = 0
                connection.send_packed_command(packed)
                replies = _read(connection, unread + len(commands))[unread:]
            except (redis.ConnectionError, redis.TimeoutError):
                connection.disconnect()
                if not again or self._closed:
                    raise
                connection.send_packed_command(packed)
                replies = _read(connection, len(commands))
        except BaseException:
            self._close(connection)  # replies that were not read are nobody else's
            raise
        self._idle.append((connection, time.monotonic()))
        return replies

    def all(self, *commands: Command, again: bool) -> list[Any]:
        """As a call, but the first error among the replies is raised."""
        replies = self(*commands, again=again)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def one(self, *command: Any, again: bool) -> Any:
        """Do a single command; its error is raised."""
        (reply,) = self.all(command, again=again)
        return reply

    def send(self, *commands: Command) -> Unread:
        """Send commands whose replies nobody waits for, once more when the connection fails.

        Returns:
            What a later call must be given as ``after``, or the connection is lost.

        Raises:
            redis.ConnectionError, redis.TimeoutError: they were not sent.
        """
        packed = _packed(commands)
        connection = self._take()
        try:
            try:
                connection.send_packed_command(packed)
            except (redis.ConnectionError, redis.TimeoutError):
                connection.disconnect()
                connection.send_packed_command(packed)
        except BaseException:
            self._close(connection)
            raise
        return Unread(connection, time.monotonic(), len(commands))

    def _close(self, connection: Any) -> None:
        connection.disconnect()
        self._idle.append((connection, math.inf))

    def _take(self) -> Any:
        """A connection to which Redis, as far as is known, has not said goodbye."""
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            return self._pool.get_connection()
        if time.monotonic() - used_at > _FRESH_S:
            try:
                gone = connection.can_read()
            except (redis.ConnectionError, redis.TimeoutError):
                gone = True
            if gone:
                connection.disconnect()  # it is opened anew when it is used
        return connection


def _packed(commands: tuple[Command, ...]) -> list[bytes]:
    """Commands in Redis's protocol, as one piece: each further piece would wake Redis for itself.

    redis-py copies a picture three times for that.
    """
    pieces: list[bytes] = []
    for command in commands:
        pieces.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            pieces += (b"$%d\r\n" % len(data), data, b"\r\n")
    return [b"".join(pieces)]


def _read(connection: Any, count: int) -> list[Any]:
    replies: list[Any] = []
    for _ in range(count):
        try:
            replies.append(connection.read_response())
        except redis.ResponseError as error:
            replies.append(error)
    return replies
