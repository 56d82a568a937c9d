"""What the catalogue gives and takes of duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from futu.catalogue.records import ImageRecord


@dataclass(slots=True)
class DuplicateRunRecord:
    """A search for duplicates; see ``duplicate_schema.DuplicateRun``.

    Attributes:
        dataset_ids: its scope, ascending.
        preset: ``strict``, ``normal``, ``loose``, or empty when a threshold was given.
        threshold: similarity to the keeper that a copy has at least, 0-100.
        model_id: whose vectors were compared; empty: only files and pixels were.
        state: ``running``, ``done``, ``error`` or ``cancelled``.
        stage: what a running one is at.
        current, total: of that stage.
    """

    id: int
    dataset_ids: tuple[int, ...]
    preset: str
    threshold: float
    model_id: str
    state: str
    stage: str = ""
    current: int = 0
    total: int = 0
    images: int = 0
    groups: int = 0
    duplicates: int = 0
    freed_bytes: int = 0
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundMember:
    """An image of a group as a run has found it; see ``duplicate_schema.DuplicateMember``."""

    image_id: int
    content_hash: bytes
    size: int
    tier: str
    cosine: float
    similarity: float
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """A group as a run has found it; the first member is the keeper, and is never hidden."""

    members: tuple[FoundMember, ...]
    state: str


@dataclass(frozen=True, slots=True)
class DuplicateMemberRecord:
    """An image of a group.

    Attributes:
        image: as it is now; None: the catalogue does not know it any more.
        content_hash: what it was when the run saw it.
        tier: ``exact``, ``pixels`` or ``near``: how it was found to be a copy of the keeper.
        cosine: to the keeper, by the vectors compared; 1 for the first two tiers.
        similarity: the same, 0-100.
        reference: whether it is in a dataset whose files are always kept.
        hidden: left out, since people decided about it before.
        edit: what was done to it, as far as anyone has looked; JSON.
    """

    image_id: int
    rank: int
    image: ImageRecord | None
    content_hash: bytes
    tier: str
    cosine: float
    similarity: float
    reference: bool
    hidden: bool
    edit: str | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the image is there and still what the run saw."""
        image = self.image
        return (
            image is not None and image.state == "ready" and image.content_hash == self.content_hash
        )


@dataclass(frozen=True, slots=True)
class DuplicateGroupRecord:
    """A group of a run; see ``duplicate_schema.DuplicateGroup``. Its keeper comes first."""

    run_id: int
    number: int
    tier: str
    state: str
    keeper_id: int
    similarity: float
    images: int
    hidden: int
    freed_bytes: int
    members: tuple[DuplicateMemberRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadyImage:
    """A searchable image, as much of it as a run needs."""

    id: int
    dataset_id: int
    path: str
    size: int
    mtime_ns: int
    width: int
    height: int
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """What people decided.

    Attributes:
        members: image id, content hash, and whether that image is there and still has it.
    """

    id: int
    state: str
    members: tuple[tuple[int, bytes, bool], ...]
