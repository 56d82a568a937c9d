"""How much more a stream may hold."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import redis

from futu.jobs.message import Stream

_TRUSTED_S = 1.0


@dataclass
class _Room:
    jobs: int
    size: int
    until: float


class StreamRoom:
    """Bounds on streams, in jobs and in bytes.

    Redis is asked when what it said last is used up, or older than a second; in between the
    jobs sent from here are counted. So a bound costs next to nothing, and several controllers
    together may pass it by what they send in a second. Methods raise what redis-py raises.

    Args:
        client: the connection.
        most_jobs: for each stream.
        most_bytes: for any stream.
    """

    def __init__(self, client: redis.Redis, most_jobs: dict[Stream, int], most_bytes: int) -> None:
        self._client = client
        self._most_jobs = most_jobs
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._rooms: dict[Stream, _Room] = {}

    def take(self, stream: Stream, size: int) -> bool:
        """Count a job of so many bytes; False when there is no room for it.

        An empty stream has room for one job of any size.
        """
        with self._lock:
            room = self._rooms.get(stream)
            if room is None or room.until < time.monotonic() or not _fits(room, size):
                room = self._rooms[stream] = self._look(stream, size)
            if not _fits(room, size):
                return False
            room.jobs -= 1
            room.size -= size
            return True

    def _look(self, stream: Stream, size: int) -> _Room:
        pipe = self._client.pipeline(transaction=False)
        pipe.xlen(stream)
        pipe.memory_usage(stream, samples=0)
        found: Any = pipe.execute()
        waiting, used = int(found[0]), int(found[1] or 0)
        left = self._most_bytes - used
        return _Room(
            self._most_jobs[stream] - waiting,
            max(left, size) if waiting == 0 else left,
            time.monotonic() + _TRUSTED_S,
        )


def _fits(room: _Room, size: int) -> bool:
    return room.jobs >= 1 and room.size >= size
