"""The controller's side of the queue: sending jobs, waiting for answers, collecting results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from futu.errors import JobFailedError, JobTimeoutError, QueueFullError
from futu.jobs.base import MAX_WAITING, QueueConnection, result_key
from futu.jobs.connection import BLOCK_S, translated
from futu.jobs.exchange import Command
from futu.jobs.message import ItemError, Job, JobResult, Stream, decode, encode
from futu.jobs.scripts import DONE_STREAM, GROUP, STREAMS


@dataclass(frozen=True)
class Done:
    """A finished job announced to the collector.

    Attributes:
        entry_id: of the announcement.
        result: None when its TTL ran out; one that cannot be read is a job that failed.
    """

    entry_id: bytes
    job_id: str
    result: JobResult | None


class Sending(QueueConnection):
    """See ``JobQueue``."""

    def enqueue(self, job: Job) -> bytes:
        """Put a job on its stream.

        Returns:
            The id of its entry.

        Raises:
            QueueFullError: the stream is at its bound, in jobs or in bytes.
        """
        fields = self._admit(job)
        with translated(self.url):
            return bytes(self._exchange.one(*_add(job, fields), again=True))

    def _admit(self, job: Job) -> dict[str, bytes]:
        """The fields of a job's entry, when its stream has room for them."""
        self.check_version()
        most = MAX_WAITING[job.stream]
        fields = _fields(job)
        size = sum(len(value) for value in fields.values())
        with translated(self.url):
            if self._room.take(job.stream, size):
                return fields
        raise QueueFullError(
            f"The queue {job.stream} is full ({most} jobs, or {self.max_bytes:,} bytes). Try "
            "again in a moment, or start more compute servers.",
            stream=job.stream,
            limit=most,
            limit_bytes=self.max_bytes,
        )

    def ask(self, job: Job, timeout_s: float) -> JobResult:
        """Enqueue a job and wait for its answer; both travel in one exchange.

        Raises:
            QueueFullError: see ``enqueue``.
            JobTimeoutError: see ``wait_result``.
        """
        fields = self._admit(job)
        deadline = time.monotonic() + timeout_s
        with translated(self.url):
            try:
                entry_id, reply = self._ask_once(job, fields, timeout_s)
                if reply is not None:
                    return decode(reply[1], JobResult)
                return self._wait(job, entry_id, deadline, timeout_s)
            except (redis.ConnectionError, redis.TimeoutError):
                # Nobody knows whether the job arrived, or its answer was on the way: it is sent
                # again, and whatever the first one leaves is taken back in the end.
                try:
                    entry_id = self._exchange.one(*_add(job, fields), again=False)
                    return self._wait(job, entry_id, deadline, timeout_s)
                finally:
                    self._withdraw_all(job)

    def _ask_once(self, job: Job, fields: dict[str, bytes], timeout_s: float) -> tuple[bytes, Any]:
        wait = ("BLPOP", result_key(job.job_id), max(0.001, min(timeout_s, BLOCK_S)))
        added, reply = self._exchange.all(_add(job, fields), wait, again=False)
        return added, reply

    def _withdraw_all(self, job: Job) -> None:
        for entry_id, other in self.unfinished(job.stream):
            if other.job_id == job.job_id:
                self.withdraw(job, entry_id)
        with translated(self.url):
            self.redis.delete(result_key(job.job_id))

    def wait_result(self, job: Job, entry_id: bytes, timeout_s: float) -> JobResult:
        """Wait for the answer to a job and remove it.

        Raises:
            JobTimeoutError: none came within ``timeout_s``; the job is withdrawn, so that a
                late answer is dropped by ``deliver`` and leaves no key behind.
        """
        with translated(self.url):
            return self._wait(job, entry_id, time.monotonic() + timeout_s, timeout_s)

    def _wait(self, job: Job, entry_id: bytes, deadline: float, timeout_s: float) -> JobResult:
        key = result_key(job.job_id)
        while (left := deadline - time.monotonic()) > 0:
            wait = ("BLPOP", key, max(0.001, min(left, BLOCK_S)))
            # Not again: an answer may be lost with the connection that it came by.
            reply = self._exchange.one(*wait, again=False)
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
            pipe.delete(result_key(job.job_id))
            pipe.execute()

    def done(self, count: int, block_s: float = 0.0) -> list[Done]:
        """Finished jobs not yet forgotten, oldest first; waits up to ``block_s`` for the first."""
        block = max(1, int(block_s * 1000)) if block_s > 0 else None
        with translated(self.url):
            reply: Any = self.redis.xread({DONE_STREAM: "0"}, count=count, block=block)
            if not reply:
                return []
            entries = [(entry_id, _announced(fields)) for entry_id, fields in reply[0][1]]
            pipe = self.redis.pipeline(transaction=False)
            for _, job_id in entries:
                pipe.lindex(result_key(job_id), 0)
            found = pipe.execute(raise_on_error=False)
            return [
                Done(entry_id, job_id, _result(job_id, reply))
                for (entry_id, job_id), reply in zip(entries, found, strict=True)
            ]

    def forget_done(self, finished: Sequence[Done]) -> None:
        """Remove results that the catalogue now holds."""
        with translated(self.url):
            pipe = self.redis.pipeline(transaction=True)
            for entry in finished:
                pipe.xdel(DONE_STREAM, entry.entry_id)
                pipe.delete(result_key(entry.job_id))
            pipe.execute()

    def unfinished(self, stream: Stream) -> list[tuple[bytes, Job]]:
        """All jobs on a stream, waiting or leased, with their entries; without picture bytes."""
        with translated(self.url):
            heads: Any = self._heads(keys=[stream])
        jobs = []
        for entry_id, head in heads:
            # What is no job is none of ours to list; the worker that meets it removes it.
            with contextlib.suppress(JobFailedError):
                jobs.append((entry_id, decode(head, Job)))
        return jobs

    def depth(self) -> dict[str, int]:
        """How many jobs each stream holds, waiting or leased."""
        with translated(self.url):
            pipe = self.redis.pipeline(transaction=False)
            for stream in STREAMS:
                pipe.xlen(stream)
            return dict(zip(STREAMS, pipe.execute(), strict=True))


def _add(job: Job, fields: dict[str, bytes]) -> Command:
    """The command that puts a job on its stream."""
    return ("XADD", job.stream, "*", *(word for field in fields.items() for word in field))


def _fields(job: Job) -> dict[str, bytes]:
    """The fields of a job's entry."""
    fields: dict[str, bytes] = {"job": encode(job.without_data())}
    for number, item in enumerate(job.items):
        if item.data is not None:
            fields[f"data{number}"] = item.data
    return fields


def _announced(fields: dict[bytes, bytes]) -> str:
    """The job of an announcement; nobody's, and without a result, when it names none."""
    return fields.get(b"job_id", b"").decode("utf-8", "replace")


def _result(job_id: str, reply: Any) -> JobResult | None:
    """What Redis has under the key of a result."""
    try:
        if isinstance(reply, redis.ResponseError):
            if "WRONGTYPE" not in str(reply):
                raise reply
            raise JobFailedError(
                "Another program has written over a result in Redis. Give Futu a Redis database "
                "of its own."
            )
        return decode(reply, JobResult) if reply is not None else None
    except JobFailedError as error:
        return JobResult(job_id, "", [], ItemError.of(error))
