"""The job queue: Redis Streams with one consumer group.

A job waits on the stream ``query`` or ``library``. A worker *leases* it (XREADGROUP), keeps the
lease alive by heartbeats (XCLAIM JUSTID resets the idle time), and delivers the result in one
atomic step: reply on ``result:<job_id>`` with a TTL, acknowledge, delete from the stream. A lease
that has been silent for ``lease_s`` is taken over by another worker (XAUTOCLAIM); the first one's
delivery is then refused, because the entry is no longer in its name.

A result that nobody waits for is also announced on the stream ``futu:done``, which the collector
reads from its start and deletes from after the catalogue has committed; a collector that dies in
between finds it there again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from futu.errors import JobFailedError, JobTimeoutError, QueueFullError
from futu.jobs.connection import BLOCK_S, connect, translated
from futu.jobs.message import Job, JobResult, ServerInfo, Stream, decode, encode

GROUP = "compute"
DONE_STREAM = "futu:done"
SERVER_PREFIX = "futu:servers:"
RESULT_PREFIX = "result:"
STREAMS: tuple[Stream, ...] = ("query", "library")
MAX_WAITING: dict[Stream, int] = {"query": 256, "library": 1024}

_DELIVER = """
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if held.err or #held == 0 or held[1][2] ~= ARGV[3] then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if ARGV[6] ~= '' then redis.call('XADD', KEYS[3], '*', 'job_id', ARGV[6]) end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
"""

_ENQUEUE = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'job', ARGV[2])
"""

_HEARTBEAT = """
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if held.err or #held == 0 or held[1][2] ~= ARGV[3] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[2], 'IDLE', ARGV[4], 'JUSTID')
return 1
"""


@dataclass(frozen=True)
class Lease:
    """A job in the hands of one consumer.

    Attributes:
        entry_id: its id in the stream.
        consumer: who holds it.
        job: the job itself.
    """

    stream: Stream
    entry_id: bytes
    consumer: str
    job: Job


@dataclass(frozen=True)
class Done:
    """A finished job announced to the collector; ``result`` is None when its TTL ran out."""

    entry_id: bytes
    job_id: str
    result: JobResult | None


def _result_key(job_id: str) -> str:
    return RESULT_PREFIX + job_id


class JobQueue:
    """The queue as controller and compute servers use it. Safe for several threads.

    Every method raises ``RedisUnavailableError`` when Redis does not answer.

    Args:
        url: of Redis.
        lease_s: silence after which a lease may be taken over, seconds.
        result_ttl_s: how long a result waits to be fetched, seconds.
    """

    def __init__(self, url: str, *, lease_s: float = 5.0, result_ttl_s: float = 600.0) -> None:
        self.url = url
        self.lease_s = lease_s
        self.result_ttl_s = result_ttl_s
        self._redis = connect(url)
        self._enqueue = self._redis.register_script(_ENQUEUE)
        self._deliver = self._redis.register_script(_DELIVER)
        self._heartbeat = self._redis.register_script(_HEARTBEAT)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Ask Redis whether it is there."""
        with translated(self.url):
            self._redis.ping()

    # --- the controller's side -------------------------------------------------------------

    def enqueue(self, job: Job) -> bytes:
        """Put a job on its stream.

        Returns:
            The id of its entry.

        Raises:
            QueueFullError: the stream is at its bound.
        """
        most = MAX_WAITING[job.stream]
        with translated(self.url):
            added = self._enqueue(keys=[job.stream], args=[most, encode(job)])
        if not added:
            raise QueueFullError(
                f"{most} {job.stream} jobs are waiting already. Try again in a moment, or start "
                "more compute servers.",
                stream=job.stream,
                limit=most,
            )
        return bytes(added)

    def wait_result(self, job: Job, entry_id: bytes, timeout_s: float) -> JobResult:
        """Wait for the answer to a job and remove it.

        Raises:
            JobTimeoutError: none came within ``timeout_s``; the job is withdrawn, so that a
                late answer is dropped by ``deliver`` and leaves no key behind.
        """
        deadline = time.monotonic() + timeout_s
        key = _result_key(job.job_id)
        with translated(self.url):
            while (left := deadline - time.monotonic()) > 0:
                reply: Any = self._redis.blpop([key], timeout=min(left, BLOCK_S))
                if reply is not None:
                    return decode(reply[1], JobResult)
            pipe = self._redis.pipeline(transaction=True)
            pipe.xack(job.stream, GROUP, entry_id)
            pipe.xdel(job.stream, entry_id)
            pipe.delete(key)
            pipe.execute()
        raise JobTimeoutError(
            f"No compute server answered within {timeout_s:g} s. They may be busy or stuck: see "
            "/health, or allow more time with FEATURE_TIMEOUT.",
            job_id=job.job_id,
            timeout_s=timeout_s,
        )

    def done(self, count: int, block_s: float = BLOCK_S) -> list[Done]:
        """Finished jobs not yet forgotten, oldest first; waits up to ``block_s`` for the first."""
        with translated(self.url):
            reply: Any = self._redis.xread(
                {DONE_STREAM: "0"}, count=count, block=max(1, int(block_s * 1000))
            )
            if not reply:
                return []
            entries = [(entry_id, fields[b"job_id"].decode()) for entry_id, fields in reply[0][1]]
            pipe = self._redis.pipeline(transaction=False)
            for _, job_id in entries:
                pipe.lindex(_result_key(job_id), 0)
            found = pipe.execute()
        return [
            Done(entry_id, job_id, decode(data, JobResult) if data is not None else None)
            for (entry_id, job_id), data in zip(entries, found, strict=True)
        ]

    def forget_done(self, finished: Sequence[Done]) -> None:
        """Remove results that the catalogue now holds."""
        with translated(self.url):
            pipe = self._redis.pipeline(transaction=True)
            for entry in finished:
                pipe.xdel(DONE_STREAM, entry.entry_id)
                pipe.delete(_result_key(entry.job_id))
            pipe.execute()

    def unfinished(self, stream: Stream) -> list[Job]:
        """All jobs on a stream, waiting or leased."""
        with translated(self.url):
            entries: Any = self._redis.xrange(stream)
        return [decode(fields[b"job"], Job) for _, fields in entries]

    def depth(self) -> dict[str, int]:
        """How many jobs each stream holds, waiting or leased."""
        with translated(self.url):
            pipe = self._redis.pipeline(transaction=False)
            for stream in STREAMS:
                pipe.xlen(stream)
            return dict(zip(STREAMS, pipe.execute(), strict=True))

    def servers(self) -> list[ServerInfo]:
        """The compute servers that are alive."""
        with translated(self.url):
            keys = list(self._redis.scan_iter(match=SERVER_PREFIX + "*", count=1000))
            values: Any = self._redis.mget(keys) if keys else []
        return [decode(value, ServerInfo) for value in values if value is not None]

    # --- the compute server's side ---------------------------------------------------------

    def register(self, info: ServerInfo) -> None:
        """Say that this compute server is alive; forgotten after ``lease_s`` without a repeat."""
        with translated(self.url):
            self._redis.set(
                SERVER_PREFIX + info.server, encode(info), px=max(1000, int(self.lease_s * 1000))
            )

    def unregister(self, server: str, consumers: Sequence[str]) -> None:
        """Say goodbye: the server and its consumers, which must hold no lease, are forgotten."""
        with translated(self.url):
            self._redis.delete(SERVER_PREFIX + server)
            for stream in STREAMS:
                for consumer in consumers:
                    self._with_group(stream, lambda s=stream, c=consumer: self._drop_consumer(s, c))

    def _drop_consumer(self, stream: Stream, consumer: str) -> None:
        # Deleting a consumer drops what it holds from the pending list: only when it is empty.
        held: Any = self._redis.xpending_range(stream, GROUP, "-", "+", 1, consumername=consumer)
        if not held:
            self._redis.xgroup_delconsumer(stream, GROUP, consumer)

    def lease(
        self, stream: Stream, consumer: str, *, count: int = 1, block_s: float = 0.0
    ) -> list[Lease]:
        """Take jobs nobody holds, waiting up to ``block_s`` (0: not at all) for the first."""
        block = max(1, int(block_s * 1000)) if block_s > 0 else None
        with translated(self.url):
            reply: Any = self._with_group(
                stream,
                lambda: self._redis.xreadgroup(
                    GROUP, consumer, {stream: ">"}, count=count, block=block
                ),
            )
        return self._leases(stream, consumer, reply[0][1] if reply else [])

    def reclaim(self, stream: Stream, consumer: str, *, count: int = 1) -> list[Lease]:
        """Take over jobs whose holder has been silent for ``lease_s``."""
        with translated(self.url):
            reply: Any = self._with_group(
                stream,
                lambda: self._redis.xautoclaim(
                    stream, GROUP, consumer, int(self.lease_s * 1000), "0-0", count=count
                ),
            )
        return self._leases(stream, consumer, reply[1])

    def heartbeat(self, lease: Lease) -> bool:
        """Keep a lease alive. False when it is no longer ours."""
        with translated(self.url):
            return bool(self._touch(lease, idle_ms=0))

    def release(self, lease: Lease) -> bool:
        """Give a job back so that any worker's next ``reclaim`` takes it."""
        with translated(self.url):
            return bool(self._touch(lease, idle_ms=int(self.lease_s * 1000) + 1))

    def deliver(self, lease: Lease, result: JobResult) -> bool:
        """Send the result and acknowledge, in one atomic step.

        Returns:
            False when the lease was lost: the result is dropped and nothing changes.
        """
        with translated(self.url):
            delivered = self._deliver(
                keys=[lease.stream, _result_key(lease.job.job_id), DONE_STREAM],
                args=[
                    GROUP,
                    lease.entry_id,
                    lease.consumer,
                    encode(result),
                    int(self.result_ttl_s * 1000),
                    lease.job.job_id if lease.job.collect else "",
                ],
            )
        return bool(delivered)

    def _touch(self, lease: Lease, idle_ms: int) -> Any:
        return self._heartbeat(
            keys=[lease.stream], args=[GROUP, lease.entry_id, lease.consumer, idle_ms]
        )

    def _leases(self, stream: Stream, consumer: str, entries: Any) -> list[Lease]:
        leases = []
        for entry_id, fields in entries:
            if not fields:
                continue  # deleted while pending; XAUTOCLAIM has already dropped it
            try:
                job = decode(fields[b"job"], Job)
            except (JobFailedError, KeyError):
                # Not one of ours, or unreadable: it can never be done by anyone.
                self._redis.xack(stream, GROUP, entry_id)
                self._redis.xdel(stream, entry_id)
                continue
            leases.append(Lease(stream, entry_id, consumer, job))
        return leases

    def _with_group(self, stream: Stream, command: Any) -> Any:
        """Run a command that needs the group; make the group if Redis has forgotten it."""
        try:
            return command()
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        try:
            self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        return command()
