"""The tables of duplicates: runs that look for them, their groups, and what people decided.

Groups belong to a run and go with it. Decisions stay: they are about images, not about groups.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from futu.catalogue.schema import Base, PlainText, UtcTime

_Id = BigInteger().with_variant(Integer, "sqlite")

RUNNING = "running"
"""State of a run; it ends as ``done``, ``error`` or ``cancelled``."""

EXACT, PIXELS, NEAR = "exact", "pixels", "near"
TIERS = (EXACT, PIXELS, NEAR)
"""The same bytes; other bytes and the same pixels; told by the vectors for ``copy``."""

OPEN, RESOLVED, DISMISSED = "open", "resolved", "dismissed"
GROUP_STATES = (OPEN, RESOLVED, DISMISSED)
"""To be looked at; dealt with; no duplicates, or all of them wanted."""


class DuplicateRun(Base):
    """A search for duplicates in some datasets, and what came of it.

    ``scope`` is a digest of ``dataset_ids``, which are ascending with commas between them.
    ``threshold`` is a similarity, 0-100. ``duplicates`` and ``freed_bytes``: how many files there
    are beside the keepers in groups that are open, and their bytes.
    """

    __tablename__ = "duplicate_runs"
    __table_args__ = (
        Index(None, "scope", "id"),
        Index(
            "ix_duplicate_runs_running",
            "scope",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    scope: Mapped[str] = mapped_column(String(64))
    dataset_ids: Mapped[str] = mapped_column(Text)
    preset: Mapped[str] = mapped_column(String(16))
    threshold: Mapped[float] = mapped_column(Float)
    model_id: Mapped[str] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(16), default="")
    current: Mapped[int] = mapped_column(Integer, default=0)
    total: Mapped[int] = mapped_column(Integer, default=0)
    images: Mapped[int] = mapped_column(Integer, default=0)
    groups: Mapped[int] = mapped_column(Integer, default=0)
    duplicates: Mapped[int] = mapped_column(Integer, default=0)
    freed_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    message: Mapped[str] = mapped_column(PlainText, default="")
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)


class DuplicateGroup(Base):
    """Images that are copies of their keeper. ``number`` counts the groups of a run from 1.

    ``tier`` is the weakest of its members'; ``similarity`` the lowest, 0-100. ``images`` are
    those shown, ``hidden`` those left out because people decided about them before;
    ``freed_bytes`` those of the images shown but the keeper.
    """

    __tablename__ = "duplicate_groups"
    __table_args__ = (Index(None, "run_id", "state", "number"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("duplicate_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    tier: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    keeper_id: Mapped[int] = mapped_column(BigInteger)
    similarity: Mapped[float] = mapped_column(Float)
    images: Mapped[int] = mapped_column(Integer)
    hidden: Mapped[int] = mapped_column(Integer)
    freed_bytes: Mapped[int] = mapped_column(BigInteger)


class DuplicateMember(Base):
    """An image of a group, and how it was found to be a copy of the keeper.

    ``rank`` 0 is the keeper. ``content_hash`` is what the image was when the run saw it.
    ``cosine`` and ``similarity`` are to the keeper. ``edit`` is what was done to it, as far as
    anyone has looked.
    """

    __tablename__ = "duplicate_members"
    __table_args__ = (Index(None, "image_id"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("duplicate_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    rank: Mapped[int] = mapped_column(Integer, primary_key=True)
    image_id: Mapped[int] = mapped_column(BigInteger)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    tier: Mapped[str] = mapped_column(String(16))
    cosine: Mapped[float] = mapped_column(Float)
    similarity: Mapped[float] = mapped_column(Float)
    hidden: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    edit: Mapped[str | None] = mapped_column(Text)


class Verdict(Base):
    """What people decided about some images: ``dismissed`` or ``resolved``."""

    __tablename__ = "duplicate_verdicts"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    decided_at: Mapped[datetime] = mapped_column(UtcTime)


class VerdictMember(Base):
    """An image that was decided about. A file that was renamed since is known by its content."""

    __tablename__ = "duplicate_verdict_members"
    __table_args__ = (Index(None, "content_hash"), Index(None, "image_id"))

    verdict_id: Mapped[int] = mapped_column(ForeignKey("duplicate_verdicts.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class PixelHash(Base):
    """The hash of a content's pixels, as they are seen. None: it has more than one picture."""

    __tablename__ = "pixel_hashes"

    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    pixel_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))


class Calibration(Base):
    """What was measured with the pictures of a dataset under a model; ``facts`` is JSON."""

    __tablename__ = "calibrations"

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    measured_at: Mapped[datetime] = mapped_column(UtcTime)
    facts: Mapped[str] = mapped_column(Text)
