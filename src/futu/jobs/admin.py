"""What an operator does to jobs: list them, revive dead letters, clear locks left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from futu.errors import JobFailedError
from futu.jobs.connection import translated
from futu.jobs.message import DeadLetter, Job, Stream, decode
from futu.jobs.scripts import DEAD_STREAM, DONE_STREAM, GROUP, LOCK_PREFIX, STREAMS
from futu.jobs.streams import JobQueue

_MOST_PENDING = 1_000_000


@dataclass(frozen=True)
class JobState:
    """A job on a stream.

    Attributes:
        consumer: who has leased it, or None while it waits.
        silent_s: seconds since the holder's last heartbeat.
        deliveries: how often it was handed out.
    """

    job: Job
    stream: Stream
    consumer: str | None = None
    silent_s: float = 0.0
    deliveries: int = 0


@dataclass(frozen=True)
class Depths:
    """How much Redis holds of everything.

    Attributes:
        jobs: by stream, waiting or leased.
        leased: by stream, those in somebody's hands.
        uncollected: results that wait for the collector.
        dead: dead letters.
    """

    jobs: dict[Stream, int]
    leased: dict[Stream, int]
    uncollected: int
    dead: int


@dataclass(frozen=True)
class Dead:
    """A dead letter and its id in the stream."""

    entry_id: bytes
    letter: DeadLetter


class JobAdmin:
    """Operations on all jobs. Every method raises ``RedisUnavailableError``.

    Args:
        queue: whose jobs.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def jobs(self) -> list[JobState]:
        """All jobs, leased or waiting, oldest first in each stream."""
        states = []
        for stream in STREAMS:
            jobs = self._queue.unfinished(stream)
            held = {entry["message_id"]: entry for entry in self._pending(stream, len(jobs))}
            for entry_id, job in jobs:
                entry = held.get(entry_id)
                states.append(
                    JobState(job, stream)
                    if entry is None
                    else JobState(
                        job,
                        stream,
                        entry["consumer"].decode(),
                        entry["time_since_delivered"] / 1000,
                        entry["times_delivered"],
                    )
                )
        return states

    def depths(self) -> Depths:
        """How much there is of everything, in one exchange with Redis."""
        with translated(self._queue.url):
            pipe = self._queue.redis.pipeline(transaction=False)
            for stream in (*STREAMS, DONE_STREAM, DEAD_STREAM):
                pipe.xlen(stream)
            for stream in STREAMS:
                pipe.xpending(stream, GROUP)
            *lengths, uncollected, dead = (replies := pipe.execute(raise_on_error=False))[:5]
            pending = replies[5:]
            for reply in replies:
                # A stream on which there never was a job has no group.
                if isinstance(reply, Exception) and "NOGROUP" not in str(reply):
                    raise reply
        leased = [0 if isinstance(reply, Exception) else reply["pending"] for reply in pending]
        return Depths(
            dict(zip(STREAMS, lengths, strict=True)),
            dict(zip(STREAMS, leased, strict=True)),
            uncollected,
            dead,
        )

    def dead(self, offset: int = 0, limit: int = 1000) -> list[Dead]:
        """Dead letters, oldest first."""
        with translated(self._queue.url):
            found: Any = self._queue.redis.xrange(DEAD_STREAM, count=offset + limit)
        letters = []
        for entry_id, fields in found[offset:]:
            # What is no letter tells of no picture; it goes when the stream is trimmed.
            with contextlib.suppress(JobFailedError, KeyError):
                letters.append(Dead(entry_id, decode(fields[b"letter"], DeadLetter)))
        return letters

    def dead_count(self) -> int:
        """How many dead letters there are."""
        with translated(self._queue.url):
            return int(self._queue.redis.xlen(DEAD_STREAM))

    def forget_dead(self, entry_ids: Collection[bytes]) -> None:
        """Remove dead letters that have been dealt with."""
        if entry_ids:
            with translated(self._queue.url):
                self._queue.redis.xdel(DEAD_STREAM, *entry_ids)

    def clear_stale_locks(self) -> int:
        """Remove locks whose owner no longer holds the job; nothing else is touched.

        Returns:
            How many were removed.
        """
        # Locks first: whoever has one already holds the job, so that a lock seen here whose
        # owner is not found among the holders afterwards is surely left behind.
        locks = {}
        with translated(self._queue.url):
            for key in self._queue.redis.scan_iter(match=LOCK_PREFIX + "*", count=1000):
                job_id = key.decode("utf-8", "replace").removeprefix(LOCK_PREFIX)
                locks[job_id] = self._queue.locks.owner(job_id)
        holders = {
            f"{entry['message_id'].decode()} {entry['consumer'].decode()}"
            for stream in STREAMS
            for entry in self._pending(stream, _MOST_PENDING)
        }
        with translated(self._queue.url):
            return sum(
                self._queue.locks.release_lock(job_id, owner)
                for job_id, owner in locks.items()
                if owner is not None and owner not in holders
            )

    def _pending(self, stream: Stream, count: int) -> list[dict[str, Any]]:
        if count == 0:
            return []
        with translated(self._queue.url):
            if not self._queue.redis.xlen(stream):
                return []
            groups: Any = self._queue.redis.xinfo_groups(stream)
            if not any(group["name"] == GROUP.encode() for group in groups):
                return []
            found: list[dict[str, Any]] = self._queue.redis.xpending_range(
                stream, GROUP, "-", "+", count
            )
            return found
