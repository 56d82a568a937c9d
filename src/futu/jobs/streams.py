"""The job queue: Redis Streams with one consumer group.

A job waits on the stream ``query``, ``library`` or ``inline``. A worker *leases* it (XREADGROUP)
and takes its lock, keeps the lease alive by heartbeats (XCLAIM JUSTID resets the idle time), and
delivers the result in one atomic step: reply on ``result:<job_id>`` with a TTL, acknowledge,
delete from the stream, unlock. A lease that has been silent for ``lease_s`` is taken over by
another worker (XAUTOCLAIM); the first one's delivery is then refused, because the entry is no
longer in its name.

A result that nobody waits for is also announced on the stream ``futu:done``, which the collector
reads from its start and deletes from after the catalogue has committed; a collector that dies in
between finds it there again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from futu.errors import JobFailedError, JobTimeoutError, QueueFullError, RedisUnavailableError
from futu.jobs import scripts
from futu.jobs.connection import BLOCK_S, connect, masked, translated
from futu.jobs.locks import JobLocks
from futu.jobs.message import DeadLetter, Job, JobResult, Stream, decode, encode
from futu.jobs.room import StreamRoom
from futu.jobs.scripts import DONE_STREAM, GROUP, STREAMS
from futu.jobs.servers import ServerList

log = logging.getLogger(__name__)

MAX_WAITING: dict[Stream, int] = {"query": 256, "library": 1024, "inline": 256}
OLDEST_REDIS = (7, 0)

_LOCK_SHARE = 0.8
"""Of the lease time: a lock is gone before another worker may take the job over."""


@dataclass(frozen=True)
class Lease:
    """A job in the hands of one consumer.

    Attributes:
        entry_id: its id in the stream.
        consumer: who holds it.
        job: the job itself.
        deliveries: how often it was handed out, this time included.
    """

    stream: Stream
    entry_id: bytes
    consumer: str
    job: Job
    deliveries: int = 1

    @property
    def owner(self) -> str:
        """Whose the job's lock is."""
        return f"{self.entry_id.decode()} {self.consumer}"


@dataclass(frozen=True)
class Done:
    """A finished job announced to the collector; ``result`` is None when its TTL ran out."""

    entry_id: bytes
    job_id: str
    result: JobResult | None


def _result_key(job_id: str) -> str:
    return scripts.RESULT_PREFIX + job_id


class JobQueue:
    """The queue as controller and compute servers use it. Safe for several threads.

    Every method raises ``RedisUnavailableError`` when Redis does not answer or is too old.

    Args:
        url: of Redis.
        lease_s: silence after which a lease may be taken over, seconds.
        result_ttl_s: how long a result waits to be fetched, seconds.
        max_bytes: the most that one stream may hold, bytes.

    Attributes:
        locks: the locks of jobs.
        servers: the compute servers that are alive.
    """

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
        self.locks = JobLocks(self.redis, lease_s * _LOCK_SHARE)
        self.servers = ServerList(self.redis, url, lease_s)
        self._room = StreamRoom(self.redis, MAX_WAITING, max_bytes)
        self._version_known = False
        self._deliver = self.redis.register_script(scripts.DELIVER)
        self._touch = self.redis.register_script(scripts.TOUCH)
        self._drop = self.redis.register_script(scripts.DROP)
        self._heads = self.redis.register_script(scripts.HEADS)

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()

    def ping(self) -> None:
        """Ask Redis whether it is there and recent enough."""
        with translated(self.url):
            self.redis.ping()
        self._check_version()

    def _check_version(self) -> None:
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

    # --- the controller's side -------------------------------------------------------------

    def enqueue(self, job: Job) -> bytes:
        """Put a job on its stream.

        Returns:
            The id of its entry.

        Raises:
            QueueFullError: the stream is at its bound, in jobs or in bytes.
        """
        self._check_version()
        most = MAX_WAITING[job.stream]
        fields = _fields(job)
        size = sum(len(value) for value in fields.values())
        with translated(self.url):
            room = self._room.take(job.stream, size)
            if room:
                added: Any = self.redis.xadd(job.stream, fields)
                return bytes(added)
        raise QueueFullError(
            f"The queue {job.stream} is full ({most} jobs, or {self.max_bytes:,} bytes). Try "
            "again in a moment, or start more compute servers.",
            stream=job.stream,
            limit=most,
            limit_bytes=self.max_bytes,
        )

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
                reply: Any = self.redis.blpop([key], timeout=min(left, BLOCK_S))
                if reply is not None:
                    return decode(reply[1], JobResult)
        self.withdraw(job, entry_id)
        raise JobTimeoutError(
            f"No compute server answered within {timeout_s:g} s. They may be busy or stuck: see "
            "/health, or allow more time with FEATURE_TIMEOUT.",
            job_id=job.job_id,
            timeout_s=timeout_s,
        )

    def withdraw(self, job: Job, entry_id: bytes) -> None:
        """Take a job back, wherever it is; who is doing it will not be able to deliver."""
        with translated(self.url):
            pipe = self.redis.pipeline(transaction=True)
            pipe.xack(job.stream, GROUP, entry_id)
            pipe.xdel(job.stream, entry_id)
            pipe.delete(_result_key(job.job_id))
            pipe.execute()

    def done(self, count: int, block_s: float = BLOCK_S) -> list[Done]:
        """Finished jobs not yet forgotten, oldest first; waits up to ``block_s`` for the first."""
        with translated(self.url):
            reply: Any = self.redis.xread(
                {DONE_STREAM: "0"}, count=count, block=max(1, int(block_s * 1000))
            )
            if not reply:
                return []
            entries = [(entry_id, fields[b"job_id"].decode()) for entry_id, fields in reply[0][1]]
            pipe = self.redis.pipeline(transaction=False)
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
            pipe = self.redis.pipeline(transaction=True)
            for entry in finished:
                pipe.xdel(DONE_STREAM, entry.entry_id)
                pipe.delete(_result_key(entry.job_id))
            pipe.execute()

    def unfinished(self, stream: Stream) -> list[tuple[bytes, Job]]:
        """All jobs on a stream, waiting or leased, with their entries; without picture bytes."""
        with translated(self.url):
            heads: Any = self._heads(keys=[stream])
        return [(entry_id, decode(head, Job)) for entry_id, head in heads]

    def depth(self) -> dict[str, int]:
        """How many jobs each stream holds, waiting or leased."""
        with translated(self.url):
            pipe = self.redis.pipeline(transaction=False)
            for stream in STREAMS:
                pipe.xlen(stream)
            return dict(zip(STREAMS, pipe.execute(), strict=True))

    # --- the compute server's side ---------------------------------------------------------

    def lease(
        self,
        streams: Stream | Sequence[Stream],
        consumer: str,
        *,
        count: int = 1,
        block_s: float = 0.0,
    ) -> list[Lease]:
        """Take jobs nobody holds, waiting up to ``block_s`` (0: not at all) for the first.

        Args:
            streams: where to look.
            consumer: for whom.
            count: the most to take from each stream.
            block_s: seconds.
        """
        names: Sequence[Stream] = [streams] if isinstance(streams, str) else streams
        self._check_version()
        block = max(1, int(block_s * 1000)) if block_s > 0 else None
        with translated(self.url):
            reply: Any = self._with_groups(
                names,
                lambda: self.redis.xreadgroup(
                    GROUP, consumer, dict.fromkeys(names, ">"), count=count, block=block
                ),
            )
            return [
                lease
                for stream, entries in reply or []
                for lease in self._leases(stream.decode(), consumer, entries)
            ]

    def reclaim(self, stream: Stream, consumer: str, *, count: int = 1) -> list[Lease]:
        """Take over jobs whose holder has been silent for ``lease_s``."""
        self._check_version()
        with translated(self.url):
            reply: Any = self._with_groups(
                [stream],
                lambda: self.redis.xautoclaim(
                    stream, GROUP, consumer, int(self.lease_s * 1000), "0-0", count=count
                ),
            )
            return self._leases(stream, consumer, reply[1], again=True)

    def heartbeat(self, lease: Lease) -> bool:
        """Keep a lease and its lock alive. False when it is no longer ours."""
        with translated(self.url):
            if not self._silence(lease, 0):
                return False
            self.locks.extend_lock(lease.job.job_id, lease.owner)
        return True

    def release(self, lease: Lease, delay_s: float = 0.0) -> bool:
        """Give a job back: any worker's ``reclaim`` takes it ``delay_s`` (<= ``lease_s``) on."""
        silent_s = self.lease_s - min(delay_s, self.lease_s)
        with translated(self.url):
            self.locks.release_lock(lease.job.job_id, lease.owner)
            return self._silence(lease, int(silent_s * 1000) + 1)

    def deliver(self, lease: Lease, result: JobResult, dead: Sequence[DeadLetter] = ()) -> bool:
        """Send the result, bury the dead and acknowledge, in one atomic step.

        Returns:
            False when the lease was lost: the result is dropped and nothing changes.
        """
        with translated(self.url):
            return bool(self._answer(lease, result, dead, self.redis))

    def deliver_all(self, answers: Sequence[tuple[Lease, JobResult]]) -> list[bool]:
        """Deliver several jobs, each in a step of its own, in one exchange with Redis."""
        if len(answers) == 1:
            return [self.deliver(*answers[0])]
        with translated(self.url):
            pipe = self.redis.pipeline(transaction=False)
            for lease, result in answers:
                self._answer(lease, result, (), pipe)
            return [bool(delivered) for delivered in pipe.execute()]

    def _answer(
        self, lease: Lease, result: JobResult, dead: Sequence[DeadLetter], client: redis.Redis
    ) -> Any:
        job_id = lease.job.job_id
        return self._deliver(
            keys=[
                lease.stream,
                _result_key(job_id),
                DONE_STREAM,
                scripts.LOCK_PREFIX + job_id,
                scripts.DEAD_STREAM,
            ],
            args=[
                GROUP,
                lease.entry_id,
                lease.consumer,
                encode(result),
                int(self.result_ttl_s * 1000),
                job_id if lease.job.collect else "",
                lease.owner,
                *(encode(letter) for letter in dead),
            ],
            client=client,
        )

    def retire(self, consumers: Sequence[str]) -> None:
        """Forget consumers that will not come back; one that still holds a job stays."""
        with translated(self.url):
            for stream in STREAMS:
                for consumer in consumers:
                    self._with_groups([stream], partial(self._forget, stream, consumer))

    def _forget(self, stream: Stream, consumer: str) -> None:
        # Deleting a consumer drops what it holds from the pending list: only when it is empty.
        held: Any = self.redis.xpending_range(stream, GROUP, "-", "+", 1, consumername=consumer)
        if not held:
            self.redis.xgroup_delconsumer(stream, GROUP, consumer)

    def _silence(self, lease: Lease, idle_ms: int) -> bool:
        args: list[bytes | str | int] = [GROUP, lease.entry_id, lease.consumer, idle_ms]
        return bool(self._touch(keys=[lease.stream], args=args))

    def _leases(
        self, stream: Stream, consumer: str, entries: Any, *, again: bool = False
    ) -> list[Lease]:
        leases = []
        for entry_id, fields in entries:
            if not fields:
                continue  # deleted while pending; XAUTOCLAIM has already dropped it
            try:
                job = _job(fields)
            except (JobFailedError, KeyError):
                # Not one of ours, or unreadable: it can never be done by anyone.
                self._drop(keys=[stream], args=[GROUP, entry_id, consumer])
                continue
            deliveries = self._deliveries(stream, entry_id) if again else 1
            leases.append(Lease(stream, entry_id, consumer, job, deliveries))
        locked = self.locks.acquire_all([(lease.job.job_id, lease.owner) for lease in leases])
        return [lease for lease, ours in zip(leases, locked) if ours or self._lock(lease)]

    def _lock(self, lease: Lease) -> bool:
        """Take a lock that another has; False, and the entry is dropped, when it is his."""
        job_id = lease.job.job_id
        while not self.locks.acquire_lock(job_id, lease.owner):
            owner = self.locks.owner(job_id)
            if owner is not None and not owner.startswith(lease.entry_id.decode() + " "):
                log.info("job %s stands on %s twice; one is dropped", job_id, lease.stream)
                self._drop(keys=[lease.stream], args=[GROUP, lease.entry_id, lease.consumer])
                return False
            if owner is not None:
                # Of the worker from whom this very entry was taken over: it has lost both.
                self.locks.release_lock(job_id, owner)
        return True

    def _deliveries(self, stream: Stream, entry_id: bytes) -> int:
        found: Any = self.redis.xpending_range(stream, GROUP, entry_id, entry_id, 1)
        return int(found[0]["times_delivered"]) if found else 1

    def _with_groups(self, streams: Sequence[Stream], command: Callable[[], Any]) -> Any:
        """Run a command that needs the group; make it on streams that do not have it."""
        try:
            return command()
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        for stream in streams:
            try:
                self.redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        return command()


def _fields(job: Job) -> dict[Any, Any]:
    """The fields of a job's entry."""
    fields = {"job": encode(job.without_data())}
    for number, item in enumerate(job.items):
        if item.data is not None:
            fields[f"data{number}"] = item.data
    return fields


def _job(fields: dict[bytes, bytes]) -> Job:
    job = decode(fields[b"job"], Job)
    for number, item in enumerate(job.items):
        item.data = fields.get(f"data{number}".encode())
    return job
