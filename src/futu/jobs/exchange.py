"""Several commands in one exchange with Redis, at the least cost.

redis-py's commands and pipelines spend some 20 to 50 microseconds each on bookkeeping around the
connection, which is half of a job's way there and back. This uses its connections directly: they
encode, time out, authenticate and check their health as elsewhere.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import redis

Command = tuple[Any, ...]

_FRESH_S = 0.5
"""A connection used within so long is not asked whether it has been closed meanwhile."""


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

    def __call__(self, *commands: Command, again: bool) -> list[Any]:
        """Do commands in order.

        Args:
            commands: each the words of one.
            again: whether all may be sent once more when the connection fails; nobody then knows
                whether the first time had arrived.

        Returns:
            The replies as Redis gave them, unparsed; an error is a ``redis.ResponseError``
            among them.

        Raises:
            redis.ConnectionError, redis.TimeoutError: no replies.
        """
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            connection, used_at = self._pool.get_connection(), time.monotonic()
        try:
            try:
                if time.monotonic() - used_at > _FRESH_S and connection.can_read():
                    connection.disconnect()  # Redis has said goodbye; it is opened anew
                return _run(connection, commands)
            except (redis.ConnectionError, redis.TimeoutError):
                connection.disconnect()
                if not again or self._closed:
                    raise
            return _run(connection, commands)
        except BaseException:
            connection.disconnect()  # replies that were not read are nobody else's
            raise
        finally:
            self._idle.append((connection, time.monotonic()))

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


def _run(connection: Any, commands: tuple[Command, ...]) -> list[Any]:
    # As one piece: each further piece would wake Redis for itself.
    packed = b"".join(part for command in commands for part in connection.pack_command(*command))
    connection.send_packed_command([packed])
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except redis.ResponseError as error:
            replies.append(error)
    return replies
