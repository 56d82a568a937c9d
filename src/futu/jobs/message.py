"""What travels between controller and compute servers: msgpack, with a schema version.

Unknown fields are ignored and new ones have defaults, so that a controller and a compute
server of neighbouring versions understand each other. A message says which schema it was written
in, and which is the oldest that makes sense of it; who is older refuses it by name.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal, TypeVar

import msgspec

from futu.errors import FutuError, JobFailedError, OtherVersionError, from_code

SCHEMA_VERSION = 4
"""Raised with every change of the structures below."""

OLDEST_READER = 3
"""Programs of this schema or a later one understand what we write; raised when a field must not
be overlooked."""

OLDEST_READABLE = 3
"""What was written in this schema or a later one we understand."""

T = TypeVar("T", bound=msgspec.Struct)

Stream = Literal["query", "library", "inline"]
"""Queries; pictures of datasets by path; pictures of datasets by bytes."""

UNSEEN = frozenset({"missing_file", "unreadable", "changed"})
"""Codes of errors that may only mean: this compute server does not see the controller's files."""


class ImageItem(msgspec.Struct, omit_defaults=True):
    """One picture of a job, by path or by bytes.

    Attributes:
        path: ``os.fsencode`` of a path the compute server can read.
        data: the file's bytes, instead.
        content_hash: SHA-256 the sender saw; the vector comes back with the hash of the bytes
            that were decoded, and the two must agree before it is stored.
        crop: x, y, width, height in pixels of the upright picture.
        name: for messages and logs.
    """

    path: bytes | None = None
    data: bytes | None = None
    content_hash: bytes | None = None
    crop: tuple[int, int, int, int] | None = None
    name: str = ""


class Job(msgspec.Struct):
    """Pictures to turn into feature vectors.

    Attributes:
        job_id: unique; names ``result:<job_id>``.
        stream: the stream it waits on.
        model_ids: the models whose vectors are wanted; a picture is decoded once for all.
        items: the pictures.
        collect: True when the collector is to be told of the result, False when a caller waits.
        request_id: of the request it is done for; empty: of none.
        pixels: whether hashes of the pixels are wanted, instead of vectors.
    """

    job_id: str
    stream: Stream
    model_ids: list[str]
    items: list[ImageItem]
    collect: bool = False
    schema_version: int = SCHEMA_VERSION
    oldest_reader: int = OLDEST_READER
    request_id: str = ""
    pixels: bool = False

    def contents(self) -> list[bytes]:
        """The content hashes of its pictures, as far as they are known."""
        return [item.content_hash for item in self.items if item.content_hash is not None]

    def without_data(self) -> Job:
        """The same job without the bytes of its pictures."""
        if all(item.data is None for item in self.items):
            return self
        items = [msgspec.structs.replace(item, data=None) for item in self.items]
        return msgspec.structs.replace(self, items=items)


class ItemError(msgspec.Struct):
    """An error that crossed the process boundary."""

    code: str
    message: str
    details: dict[str, Any] = {}

    @classmethod
    def of(cls, error: FutuError) -> ItemError:
        """The wire form of an error."""
        return cls(error.code, error.message, error.details)

    def rebuild(self) -> FutuError:
        """The error again, of its class."""
        return from_code(self.code, self.message, self.details)


class ItemResult(msgspec.Struct, omit_defaults=True):
    """What became of one picture: vectors or an error.

    Attributes:
        vectors: by model_id; float32, little-endian, ``dimension`` numbers, unit length. A model
            that the compute server does not have is not among them.
        content_hash: SHA-256 of the bytes that were read, if they could be.
        width, height: pixels of the upright picture.
        pixel_hash: if it was asked for; None when the file has more than one picture.
    """

    vectors: dict[str, bytes] = {}
    error: ItemError | None = None
    content_hash: bytes | None = None
    width: int = 0
    height: int = 0
    pixel_hash: bytes | None = None


class JobResult(msgspec.Struct):
    """The answer to a job, one entry for each item, in order.

    Attributes:
        server: who did it.
        error: set when the whole job failed; ``items`` is then empty.
    """

    job_id: str
    server: str
    items: list[ItemResult]
    error: ItemError | None = None
    schema_version: int = SCHEMA_VERSION
    oldest_reader: int = OLDEST_READER


class ServerInfo(msgspec.Struct):
    """How a compute server introduces itself; kept in Redis with a TTL.

    Attributes:
        started_at: seconds since the epoch.
        images_done: pictures of datasets since its start.
        queries_done: pictures of queries since its start.
        images_per_s: pictures of datasets in the last seconds, per second.
        by_path: whether it reads the datasets' files itself; if not, it wants their bytes.
        schema_version: in which it writes; those of schema 3 do not say.
        oldest_readable: the oldest schema that it understands.
    """

    server: str
    host: str
    pid: int
    model_ids: list[str]
    workers: int
    started_at: float
    images_done: int = 0
    queries_done: int = 0
    version: str = ""
    images_per_s: float = 0.0
    by_path: bool = True
    schema_version: int = 3
    oldest_readable: int = 3

    @property
    def fits(self) -> bool:
        """Whether it and we understand each other."""
        return self.schema_version >= OLDEST_READER and self.oldest_readable <= SCHEMA_VERSION


class StageTimes(msgspec.Struct):
    """How often a stage took how long.

    Attributes:
        lane: ``query`` or ``library``.
        stage: its name.
        counts: of durations, by class (see ``ServerMeasures.bounds_s``); the last has no bound.
        sum_s: all durations together, seconds.
    """

    lane: str
    stage: str
    counts: list[int]
    sum_s: float = 0.0


class ServerMeasures(msgspec.Struct):
    """What a compute server has measured since its start; sent with its registration.

    Attributes:
        counts: what has happened how often, by name.
        vectors: computed, by model_id.
        stages: times.
        bounds_s: upper bounds of the classes of ``stages``, seconds.
        resident_bytes: memory of the process.
        cpu_s: processor time of the process, seconds.
        clock_ahead_s: how far its clock is ahead of that of Redis, seconds; None: not known.
    """

    server: str
    host: str
    started_at: float
    version: str = ""
    workers: int = 0
    counts: dict[str, int] = {}
    vectors: dict[str, int] = {}
    stages: list[StageTimes] = []
    bounds_s: list[float] = []
    resident_bytes: int = 0
    cpu_s: float = 0.0
    clock_ahead_s: float | None = None


class DeadLetter(msgspec.Struct):
    """A picture that no worker survived.

    Attributes:
        job: the job it was in, with this picture alone and without its bytes.
        reason: what happened, each time.
        server: who gave up.
        died_at: seconds since the epoch.
    """

    job: Job
    reason: str
    server: str
    died_at: float


def new_job_id() -> str:
    """A fresh job id: 32 hex digits."""
    return secrets.token_hex(16)


_encoder = msgspec.msgpack.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """Any of the above as bytes."""
    return _encoder.encode(message)


def decode(data: bytes, kind: type[T]) -> T:
    """Bytes as one of the above.

    Raises:
        JobFailedError: not such a message.
        OtherVersionError: written by a version of Futu that this one does not understand.
    """
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise JobFailedError(
            f"A message in Redis is not a {kind.__name__} ({error}). Controller and compute "
            "servers must be of the same version; look for another program on the same Redis "
            "database."
        ) from error
    if isinstance(message, Job | JobResult):
        _check_schema(message.schema_version, message.oldest_reader, kind.__name__)
    return message


def _check_schema(written: int, oldest_reader: int, kind: str) -> None:
    older = written < OLDEST_READABLE
    if older or oldest_reader > SCHEMA_VERSION:
        raise OtherVersionError(
            f"A {kind} was written by {'an older' if older else 'a newer'} Futu (schema {written}; "
            f"this one is {SCHEMA_VERSION}) that this one does not understand. Upgrade "
            f"{'that one' if older else 'this one'}: run one version everywhere."
        )
