"""Contents that lack vectors become jobs, which carry each content once for all its models.

A compute server may lack a model; it answers without. What is left goes, at the end of the build,
to the servers that have the model, a few jobs at a time. Since any server may lease any job, one
that lacks the model may take such a job too: it hands it back at once, and the job is sent again, a
bounded number of times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from futu.catalogue.store import Catalogue
from futu.controller.build import Build
from futu.controller.outbox import Outbox
from futu.errors import ChangedFileError, FutuError
from futu.images.decode import DecodeLimits
from futu.images.folder import hash_bytes, read_bytes
from futu.images.walk import require_disk
from futu.jobs.message import ImageItem, Job, ServerInfo, Stream, new_job_id
from futu.jobs.streams import JobQueue
from futu.tracing import request_id

_INLINE_JOB_BYTES = 8 * 1024 * 1024
_MOST_BOUNCES = 10
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0

Asked = tuple[str, ...]


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
        self._outbox = Outbox(queue)
        self._limits = limits
        self._batch_size = batch_size

    def look(self, build: Build) -> None:
        """Let a build know which models there are servers for."""
        self._outbox.servers(build)

    def send(self, build: Build, contents: Sequence[bytes]) -> None:
        """Send contents that the build waits for; waits for room.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        for asked, piece in self._pieces(build, contents):
            self._resend(build)
            servers = self._outbox.servers(build)
            if _is_rest(servers, asked):
                with build.lock:
                    build.rest += piece
            else:
                self._send_piece(build, asked, piece, servers)

    def finish(self, build: Build) -> None:
        """Wait until every result has come.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        while True:
            self._resend(build)
            self._send_rest(build)
            with build.lock:
                build.check()
                if build.resend:
                    continue
                if not build.outstanding:
                    if not build.rest:
                        return
                    continue
                stalled = self._outbox.stalled(build)
            if stalled:
                self._outbox.recover(build)

    def withdraw(self, build: Build) -> None:
        """Take back the jobs of a build that was cancelled; what is under way is dropped."""
        self._outbox.withdraw(build)

    def _pieces(
        self, build: Build, contents: Sequence[bytes]
    ) -> list[tuple[Asked, Sequence[bytes]]]:
        """Contents in pieces for one job each, by the models that they need.

        Those that nobody has a model for come to their end.
        """
        groups: dict[Asked, list[bytes]] = {}
        with build.lock:
            for content in contents:
                asked = build.asks(content)
                if asked:
                    groups.setdefault(asked, []).append(content)
                else:
                    build.give_up(content, wanting=True)
        return [
            (asked, group[start : start + self._batch_size])
            for asked, group in groups.items()
            for start in range(0, len(group), self._batch_size)
        ]

    def _resend(self, build: Build) -> None:
        with build.lock:
            contents, build.resend = build.resend, []
        for asked, piece in self._pieces(build, contents):
            self._send_bytes(build, asked, piece)

    def _send_rest(self, build: Build) -> None:
        """Send what servers without a model have left, as much as those with it can use now."""
        if not build.rest:
            return
        if build.bounces:
            build.halt.wait(min(_FIRST_PAUSE_S * 2**build.bounces, _LONGEST_PAUSE_S))
        servers = self._outbox.servers(build)
        room = self._batch_size * max(1, len(servers))
        with build.lock:
            if build.bounces >= _MOST_BOUNCES:
                for content in build.rest:
                    build.give_up(content, wanting=True)
                build.rest, build.bounces = [], 0
            contents, build.rest = build.rest[:room], build.rest[room:]
        for asked, piece in self._pieces(build, contents):
            able = _able(servers, asked)
            with build.lock:
                flying = sum(
                    _is_rest(servers, sent.job.model_ids) for sent in build.outstanding.values()
                )
                if len(able) < len(servers) and flying >= len(able):
                    build.rest += piece
                    continue
            self._send_piece(build, asked, piece, able)

    def _send_piece(
        self, build: Build, asked: Asked, contents: Sequence[bytes], servers: Sequence[ServerInfo]
    ) -> None:
        if self._wants_bytes(build, servers):
            self._send_bytes(build, asked, contents)
        else:
            self._send_paths(build, asked, contents, servers)

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

    def _send_paths(
        self, build: Build, asked: Asked, contents: Sequence[bytes], servers: Sequence[ServerInfo]
    ) -> None:
        with build.lock:
            items = [item for content in contents if (item := build.item(content)) is not None]
        if items:
            job = _job("library", asked, items)
            self._outbox.put(build, job, 0, servers)

    def _send_bytes(self, build: Build, asked: Asked, contents: Sequence[bytes]) -> None:
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
                self._send_inline(build, asked, piece, size)
                piece, size = [], 0
            piece.append(item)
            size += more
        if piece:
            self._send_inline(build, asked, piece, size)

    def _send_inline(self, build: Build, asked: Asked, items: list[ImageItem], size: int) -> None:
        job = _job("inline", asked, items)
        self._outbox.put(build, job, size, self._outbox.servers(build))

    def _loaded(self, build: Build, content: bytes) -> ImageItem | None:
        """A content with its bytes, from the first of its files that still has them.

        Those that do not have failed. None: no file has it, or it has come to its end.

        Raises:
            MissingFileError: the whole folder is gone; nothing has failed.
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
                require_disk(build.folder)
                with build.lock:
                    path = build.drop_file(content)
                    if path is not None:
                        self._catalogue.fail_file(
                            build.dataset.id, path, content, error.code, error.message
                        )


def _job(stream: Stream, asked: Asked, items: list[ImageItem]) -> Job:
    """A job for the collector, under the id of the request that this thread works for."""
    return Job(new_job_id(), stream, list(asked), items, collect=True, request_id=request_id())


def _is_rest(servers: Sequence[ServerInfo], asked: Sequence[str]) -> bool:
    """Whether some server has none of these models and would hand the job back."""
    return len(_able(servers, asked)) < len(servers)


def _able(servers: Sequence[ServerInfo], asked: Sequence[str]) -> list[ServerInfo]:
    """The servers that have one of these models."""
    return [server for server in servers if not set(asked).isdisjoint(server.model_ids)]
