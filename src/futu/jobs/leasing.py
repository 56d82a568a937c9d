"""The compute server's side of the queue: leasing jobs and delivering their results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis
from redis.exceptions import NoScriptError

from futu.errors import JobFailedError, OtherVersionError
from futu.jobs import scripts
from futu.jobs.base import QueueConnection, result_key
from futu.jobs.connection import translated
from futu.jobs.exchange import Command
from futu.jobs.message import DeadLetter, Job, JobResult, ServerInfo, Stream, decode, encode
from futu.jobs.scripts import DONE_STREAM, GROUP, STREAMS

log = logging.getLogger(__name__)

_OTHERS = -1
"""What the script that delivers says when another has the job's lock."""


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


class Leasing(QueueConnection):
    """See ``JobQueue``."""

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
        self.check_version()
        block = max(1, int(block_s * 1000)) if block_s > 0 else None
        command = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count]
        if block is not None:
            command += ["BLOCK", block]
        command += ["STREAMS", *names, *(">" for _ in names)]
        with translated(self.url):
            self.locks.settle(consumer)
            reply = self._with_groups(names, lambda: self._exchange.one(*command, again=True))
            return [
                lease
                for stream, entries in reply or []
                for lease in self._leases(stream.decode(), consumer, entries)
            ]

    def reclaim(self, stream: Stream, consumer: str, *, count: int = 1) -> list[Lease]:
        """Take over jobs whose holder has been silent for ``lease_s``."""
        self.check_version()
        silent_ms = int(self.lease_s * 1000)
        leases: list[Lease] = []
        cursor = b"0-0"
        with translated(self.url):
            while True:
                # One call looks at some ten entries for each that is wanted: silent jobs may
                # stand behind many live ones.
                claim = ("XAUTOCLAIM", stream, GROUP, consumer, silent_ms, cursor, "COUNT", count)
                reply = self._with_groups([stream], partial(self._exchange.one, *claim, again=True))
                cursor = reply[0]
                leases += self._leases(stream, consumer, reply[1], again=True)
                if cursor == b"0-0" or len(leases) >= count:
                    return leases

    def heartbeat(self, lease: Lease) -> bool:
        """Keep a lease and its lock alive. False when it is no longer ours."""
        lock = scripts.LOCK_PREFIX + lease.job.job_id
        with translated(self.url):
            # In one step, or the lock of a job that is delivered in between would be taken again.
            return self._silence(lease, 0, lock)

    def release(self, lease: Lease, delay_s: float = 0.0) -> bool:
        """Give a job back: any worker's ``reclaim`` takes it ``delay_s`` (<= ``lease_s``) on."""
        silent_s = self.lease_s - min(delay_s, self.lease_s)
        with translated(self.url):
            self.locks.settle(lease.consumer)
            self.locks.release_lock(lease.job.job_id, lease.owner)
            return self._silence(lease, int(silent_s * 1000) + 1)

    def deliver(self, lease: Lease, result: JobResult, dead: Sequence[DeadLetter] = ()) -> bool:
        """Send the result, bury the dead and acknowledge, in one atomic step.

        Returns:
            False when the lease was lost: the result is dropped and nothing changes.
        """
        with translated(self.url):
            self.locks.settle(lease.consumer)
            keys, args = self._delivery(lease, result, dead)
            while (found := self._deliver(keys=keys, args=args)) == _OTHERS:
                # The job stands there twice.
                if not self._lock(lease):
                    return False
            return bool(found)

    def deliver_all(
        self, answers: Sequence[tuple[Lease, JobResult]], about: ServerInfo | None = None
    ) -> list[bool]:
        """Deliver several jobs, each in a step of its own, in one exchange with Redis.

        Args:
            answers: their results.
            about: registered first, so that whoever has the results can rely on it.
        """
        deliveries = [self._delivery(lease, result, ()) for lease, result in answers]
        with translated(self.url):
            consumer, *others = {lease.consumer for lease, _ in answers}
            for other in others:
                self.locks.settle(other)
            before = [] if about is None else [self.servers.registration(about)]
            commands = (*before, *map(self._by_digest, deliveries))
            found = self.locks.then(consumer, *commands, again=True)[len(before) :]
            for delivered in found:
                if isinstance(delivered, Exception) and not isinstance(delivered, NoScriptError):
                    raise delivered
            # A Redis that was restarted has forgotten the script: nothing was delivered.
            return [
                self.deliver(*answer)
                if delivered == _OTHERS or isinstance(delivered, NoScriptError)
                else bool(delivered)
                for answer, delivered in zip(answers, found)
            ]

    def _by_digest(self, delivery: tuple[list[str], list[Any]]) -> Command:
        keys, args = delivery
        return ("EVALSHA", self._deliver.sha, len(keys), *keys, *args)

    def _delivery(
        self, lease: Lease, result: JobResult, dead: Sequence[DeadLetter]
    ) -> tuple[list[str], list[Any]]:
        """Keys and arguments of the script that delivers."""
        job_id = lease.job.job_id
        keys = [
            lease.stream,
            result_key(job_id),
            DONE_STREAM,
            scripts.LOCK_PREFIX + job_id,
            scripts.DEAD_STREAM,
        ]
        args: list[Any] = [
            GROUP,
            lease.entry_id,
            lease.consumer,
            encode(result),
            int(self.result_ttl_s * 1000),
            job_id if lease.job.collect else "",
            lease.owner,
            *(encode(letter) for letter in dead),
        ]
        return keys, args

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

    def _silence(self, lease: Lease, idle_ms: int, *lock: str) -> bool:
        args: list[bytes | str | int] = [GROUP, lease.entry_id, lease.consumer, idle_ms]
        args += [lease.owner, self.locks.ttl_ms]
        return bool(self._touch(keys=[lease.stream, *lock], args=args))

    def _leases(
        self, stream: Stream, consumer: str, entries: Any, *, again: bool = False
    ) -> list[Lease]:
        leases = []
        for entry_id, fields in entries:
            if not fields:
                continue  # deleted while pending; XAUTOCLAIM has already dropped it
            try:
                job = _job(dict(zip(fields[::2], fields[1::2])))
            except OtherVersionError as error:
                self._leave(stream, entry_id, consumer, error)
                continue
            except (JobFailedError, KeyError):
                # Not one of ours, or unreadable: it can never be done by anyone.
                self._drop(keys=[stream], args=[GROUP, entry_id, consumer])
                continue
            deliveries = self._deliveries(stream, entry_id) if again else 1
            leases.append(Lease(stream, entry_id, consumer, job, deliveries))
        wanted = [(lease.job.job_id, lease.owner) for lease in leases]
        if stream == "query" and not again and len(dict(wanted)) == len(wanted) > 0:
            # A query's way is so short that waiting for its lock would be a fifth of it.
            self.locks.ask(consumer, wanted)
            return leases
        locked = self.locks.acquire_all(wanted)
        return [lease for lease, ours in zip(leases, locked) if ours or self._lock(lease)]

    def _leave(self, stream: str, entry_id: bytes, consumer: str, error: OtherVersionError) -> None:
        """Give back a job that this version cannot read, for a worker of another one."""
        log.error("%s The job is left to other compute servers.", error)
        silent_ms = int(self.lease_s * 1000) + 1
        self._touch(keys=[stream], args=[GROUP, entry_id, consumer, silent_ms])

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


def _job(fields: dict[bytes, bytes]) -> Job:
    job = decode(fields[b"job"], Job)
    for number, item in enumerate(job.items):
        item.data = fields.get(f"data{number}".encode())
    return job
