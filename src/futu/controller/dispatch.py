"""Contents that need a vector become jobs; those that never come back are sent again.

Redis is never filled: each build has a bounded number of jobs, and of bytes, on the way. What
Redis forgets is noticed (a job that is neither on its stream nor done) and sent again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import msgspec

from futu.catalogue.store import Catalogue
from futu.controller.build import Build, Sent
from futu.errors import ChangedFileError, FutuError, QueueFullError, UnavailableError
from futu.images.decode import DecodeLimits
from futu.images.folder import hash_bytes, read_bytes
from futu.jobs.connection import Backoff
from futu.jobs.message import ImageItem, Job, ServerInfo, Stream, new_job_id
from futu.jobs.streams import JobQueue

log = logging.getLogger(__name__)

_WINDOW_JOBS = 24
_JOBS_A_WORKER = 3
_STALL_CHECK_S = 2.0
_INLINE_JOB_BYTES = 8 * 1024 * 1024
_INLINE_WINDOW_BYTES = 64 * 1024 * 1024
_DATASET_STREAMS: tuple[Stream, ...] = ("library", "inline")
_NO_SERVER = "no compute server is running. Start one with ./start.sh compute."


class Dispatch:
    """Sends the jobs of builds. One thread for each build.

    Args:
        catalogue: where files that cannot be sent are recorded.
        queue: where jobs go.
        limits: for reading files.
        batch_size: the most pictures in one job.
    """

    def __init__(
        self, catalogue: Catalogue, queue: JobQueue, limits: DecodeLimits, batch_size: int
    ) -> None:
        self._catalogue = catalogue
        self._queue = queue
        self._limits = limits
        self._batch_size = batch_size

    def send(self, build: Build, contents: Sequence[bytes]) -> None:
        """Send contents that the build waits for; waits for room.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        for start in range(0, len(contents), self._batch_size):
            self._resend(build)
            piece = contents[start : start + self._batch_size]
            servers = self._servers()
            if self._wants_bytes(build, servers):
                self._send_bytes(build, piece)
            else:
                self._send_paths(build, piece, servers)

    def finish(self, build: Build) -> None:
        """Wait until every result has come.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        while True:
            self._resend(build)
            with build.lock:
                build.check()
                if not build.resend and not build.outstanding:
                    return
                stalled = not build.resend and not build.lock.wait(_STALL_CHECK_S)
            if stalled:
                self._recover(build)

    def withdraw(self, build: Build) -> None:
        """Take back the jobs of a build that was cancelled; what is under way is dropped."""
        with build.lock:
            ours = set(build.outstanding)
            build.outstanding.clear()
            build.resend.clear()
        for stream in _DATASET_STREAMS:
            for entry_id, job in self._queue.unfinished(stream):
                if job.job_id in ours:
                    self._queue.withdraw(job, entry_id)

    def _servers(self) -> list[ServerInfo]:
        try:
            return self._queue.servers.alive()
        except FutuError:
            return []

    def _wants_bytes(self, build: Build, servers: Sequence[ServerInfo]) -> bool:
        """Whether the next job should carry its pictures.

        As many do as the servers that do not see our files can use.
        """
        blind = sum(server.workers for server in servers if not server.by_path)
        if not blind:
            return False
        if all(not server.by_path for server in servers):
            return True
        with build.lock:
            inline = sum(sent.job.stream == "inline" for sent in build.outstanding.values())
        return inline < 2 * blind

    def _resend(self, build: Build) -> None:
        with build.lock:
            contents, build.resend = build.resend, []
        for start in range(0, len(contents), self._batch_size):
            self._send_bytes(build, contents[start : start + self._batch_size])

    def _send_paths(
        self, build: Build, contents: Sequence[bytes], servers: Sequence[ServerInfo]
    ) -> None:
        with build.lock:
            items = [item for content in contents if (item := build.item(content)) is not None]
        if items:
            job = Job(new_job_id(), "library", [build.record.model_id], items, collect=True)
            self._send_job(build, job, 0, servers)

    def _send_bytes(self, build: Build, contents: Sequence[bytes]) -> None:
        """Send contents with their bytes, in jobs of bounded size."""
        piece: list[ImageItem] = []
        size = 0
        for content in contents:
            build.check()
            item = self._loaded(build, content)
            if item is None:
                continue
            more = len(item.data or b"")
            if piece and size + more > _INLINE_JOB_BYTES:
                self._send_inline(build, piece, size)
                piece, size = [], 0
            piece.append(item)
            size += more
        if piece:
            self._send_inline(build, piece, size)

    def _send_inline(self, build: Build, items: list[ImageItem], size: int) -> None:
        job = Job(new_job_id(), "inline", [build.record.model_id], items, collect=True)
        self._send_job(build, job, size, self._servers())

    def _loaded(self, build: Build, content: bytes) -> ImageItem | None:
        """A content with its bytes, from the first of its files that still has them.

        Those that do not have failed. None: no file has it, or it has come to its end.
        """
        while True:
            with build.lock:
                item = build.item(content)
            if item is None:
                return None
            try:
                data = read_bytes(os.fsdecode(item.path or b""), self._limits)
                if hash_bytes(data) == content:
                    return msgspec.structs.replace(item, data=data)
                raise ChangedFileError(
                    f"{item.name} was changed while it was being indexed. Index it again.",
                    file=item.name,
                )
            except FutuError as error:
                with build.lock:
                    path = build.drop_file(content)
                    if path is not None:
                        self._catalogue.fail_file(
                            build.dataset.id, path, content, error.code, error.message
                        )

    def _send_job(self, build: Build, job: Job, size: int, servers: Sequence[ServerInfo]) -> None:
        window = max(_WINDOW_JOBS, _JOBS_A_WORKER * sum(server.workers for server in servers))
        while True:
            with build.lock:
                build.check()
                sent = sum(other.size for other in build.outstanding.values())
                full = bool(size and sent and sent + size > _INLINE_WINDOW_BYTES)
                if len(build.outstanding) < window and not full:
                    build.outstanding[job.job_id] = Sent(job.without_data(), size)
                    break
                stalled = not build.lock.wait(_STALL_CHECK_S)
            if stalled:
                self._recover(build)
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

    def _recover(self, build: Build) -> None:
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
            if not self._queue.servers.alive():
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
