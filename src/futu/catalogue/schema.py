"""The tables. A change here needs a migration; a test compares the two."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PENDING, READY, FAILED, MISSING = "pending", "ready", "failed", "missing"
QUARANTINED = "quarantined"
"""States of an image: waiting for its vector; searchable; refused with a reason; file gone; put
aside because workers died over it."""

BUILDING, DONE, ERROR, CANCELLED = "building", "done", "error", "cancelled"
UNCONFIRMED = "unconfirmed"
"""States of a build, together with ``pending``. ``unconfirmed``: done, but so many files had
vanished that none of them was forgotten."""


class FilePath(TypeDecorator[str]):
    """A file system path, stored as the bytes the file system has (names need not be UTF-8)."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """To the database."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """From the database."""
        return None if value is None else os.fsdecode(bytes(value))


class PlainText(TypeDecorator[str]):
    """Text that every database takes: what is no Unicode, and NUL, become a replacement mark."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        if value is None:
            return None
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


class Words(TypeDecorator[tuple[str, ...]]):
    """A few words, stored with commas between them."""

    impl = String(64)
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else ",".join(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        """From the database."""
        return None if value is None else tuple(value.split(","))


class UtcTime(TypeDecorator[datetime]):
    """An aware time; SQLite forgets the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


# SQLite counts up by itself only on a column declared INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Names for constraints, so that migrations can speak of them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Fact(Base):
    """Facts about the catalogue itself: its identity."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Dataset(Base):
    """A folder of pictures. ``questions`` are those that its images get vectors for.

    ``reference``: whether its files are kept whatever they are copies of.
    ``watched``: whether a running controller indexes it whenever it changes.
    """

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    folder: Mapped[str] = mapped_column(FilePath, unique=True)
    description: Mapped[str] = mapped_column(Text, default="")
    questions: Mapped[tuple[str, ...]] = mapped_column(Words, server_default="similar")
    reference: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    watched: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class Image(Base):
    """A file of a dataset. ``path`` is relative to the dataset's folder.

    ``scanned_at_ns``: when its content was hashed, nanoseconds since 1970 by our clock.
    """

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("dataset_id", "path"),
        Index(None, "dataset_id", "state", "id"),
        Index(None, "content_hash"),
        Index(None, "dataset_id", "mtime_ns"),
        Index(None, "dataset_id", "size"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    path: Mapped[str] = mapped_column(FilePath)
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    scanned_at_ns: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    content_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    state: Mapped[str] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(PlainText)
    width: Mapped[int] = mapped_column(Integer, default=0)
    height: Mapped[int] = mapped_column(Integer, default=0)
    added_at: Mapped[datetime] = mapped_column(UtcTime)


class ImageCount(Base):
    """How many images of a dataset are in a state; see ``counts``."""

    __tablename__ = "image_counts"

    dataset_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16), primary_key=True)
    images: Mapped[int] = mapped_column(BigInteger)


class Vector(Base):
    """The feature vector of a content under a model; shared by all files with that content.

    Ids are never used twice, so an index that has an id has that vector. ``data`` is float16,
    little-endian.
    """

    __tablename__ = "vectors"
    __table_args__ = (
        UniqueConstraint("model_id", "content_hash"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    model_id: Mapped[str] = mapped_column(String(128))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Build(Base):
    """One indexing of a dataset, and what came of it.

    ``total`` is what the scan saw; when the build is done it is the sum of ``added``,
    ``unchanged``, ``reused``, ``failed`` and ``quarantined``. ``confirm_missing``: whether
    files that are gone are forgotten however many they are.
    """

    __tablename__ = "builds"
    __table_args__ = (
        Index(None, "dataset_id", "id"),
        Index(
            "ix_builds_building",
            "dataset_id",
            unique=True,
            sqlite_where=text("state = 'building'"),
            postgresql_where=text("state = 'building'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    model_id: Mapped[str] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16))
    total: Mapped[int] = mapped_column(Integer, default=0)
    added: Mapped[int] = mapped_column(Integer, default=0)
    unchanged: Mapped[int] = mapped_column(Integer, default=0)
    reused: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    quarantined: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    missing: Mapped[int] = mapped_column(Integer, default=0)
    message: Mapped[str] = mapped_column(PlainText, default="")
    confirm_missing: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
