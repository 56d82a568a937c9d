"""The jobs of builds on their way: never too many, and sent again when Redis has lost them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from futu.controller.build import Build, Sent
from futu.errors import FutuError, QueueFullError, UnavailableError
from futu.jobs.connection import Backoff
from futu.jobs.message import Job, ServerInfo, Stream
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

_STALL_CHECK_S = 2.0
_WINDOW_JOBS = 24
_JOBS_A_WORKER = 3
_INLINE_WINDOW_BYTES = 64 * 1024 * 1024
_DATASET_STREAMS: tuple[Stream, ...] = ("library", "inline")
_NO_SERVER = "no compute server is running. Start one with ./start.sh compute."


class Outbox:
    """Puts jobs on their streams and watches over them until their results come.

    Redis is never filled: each build has a bounded number of jobs, and of bytes, on the way. What
    Redis forgets is noticed (a job that is neither on its stream nor done) and sent again.

    Args:
        queue: where jobs go.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def servers(self, build: Build) -> list[ServerInfo]:
        """The compute servers that are alive; the build learns which models they have."""
        try:
            alive = self._queue.servers.alive()
        except FutuError:
            return []
        build.can = frozenset(model for server in alive for model in server.model_ids)
        return alive

    def withdraw(self, build: Build) -> None:
        """Take back the jobs of a build that was cancelled; what is under way is dropped."""
        with build.lock:
            ours = set(build.outstanding)
            build.outstanding.clear()
            build.resend.clear()
            build.rest.clear()
        for stream in _DATASET_STREAMS:
            for entry_id, job in self._queue.unfinished(stream):
                if job.job_id in ours:
                    self._queue.withdraw(job, entry_id)

    def put(self, build: Build, job: Job, size: int, servers: Sequence[ServerInfo]) -> None:
        """Send a job; waits for room.

        Args:
            build: it is for.
            job: with or without the bytes of its pictures.
            size: how many bytes they are.
            servers: those alive.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        window = max(_WINDOW_JOBS, _JOBS_A_WORKER * sum(server.workers for server in servers))
        while True:
            with build.lock:
                build.check()
                sent = sum(other.size for other in build.outstanding.values())
                full = bool(size and sent and sent + size > _INLINE_WINDOW_BYTES)
                if len(build.outstanding) < window and not full:
                    build.outstanding[job.job_id] = Sent(job.without_data(), size)
                    break
                stalled = self.stalled(build)
            if stalled:
                self.recover(build)
        backoff = Backoff(build.halt)
        while True:
            try:
                self._queue.enqueue(job)
                break
            except (UnavailableError, QueueFullError) as error:
                if backoff.failures == 0:
                    build.wait_for(error.message)
                    log.warning("build of %s waits: %s", build.dataset.name, error)
                backoff.wait()
            build.check()
        if backoff.failures:
            build.wait_for("")

    def stalled(self, build: Build) -> bool:
        """Wait until something changes, with ``lock`` held; whether nothing has for a while."""
        return not build.lock.wait(_STALL_CHECK_S)

    def recover(self, build: Build) -> None:
        """Send again what Redis lost; called when nothing has come for a while.

        A job is lost when two looks in a row find it neither on a stream nor announced.
        """
        try:
            alive = {
                job.job_id
                for stream in _DATASET_STREAMS
                for _, job in self._queue.unfinished(stream)
            }
            alive |= {done.job_id for done in self._queue.done(1000) if done.result}
            if not self.servers(build):
                build.wait_for(_NO_SERVER)
            else:
                build.wait_for("")
        except FutuError as error:
            build.wait_for(error.message)
            return
        again: list[Job] = []
        with build.lock:
            missing = set(build.outstanding) - alive
            for job_id in missing & build.suspects:
                job = build.outstanding[job_id].job
                if job.stream == "inline":
                    # Its bytes are read again; under another id, lest both be waited for.
                    del build.outstanding[job_id]
                    build.resend += job.contents()
                else:
                    again.append(job)
                log.warning("job %s was lost by Redis; sent again", job_id)
            build.suspects = missing - build.suspects
        for job in again:
            try:
                self._queue.enqueue(job)
            except FutuError as error:
                log.debug("not yet: %s", error)
