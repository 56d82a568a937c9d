"""What the catalogue gives and takes: plain records, so that no one outside it sees a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from futu.catalogue.schema import FAILED, QUARANTINED

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset. ``folder`` is absolute; ``questions`` are those it answers, similar first.

    ``reference``: its files are kept whatever they are copies of.
    """

    id: int
    name: str
    folder: str
    description: str
    questions: tuple[str, ...] = ("similar",)
    reference: bool = False


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What is known of a file of a dataset; ``vector_id`` is None while it has no vector."""

    id: int
    size: int
    mtime_ns: int
    content_hash: bytes | None
    state: str
    error_code: str | None
    vector_id: int | None


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A new or changed file as the scan found it, to be written."""

    path: str
    size: int
    mtime_ns: int
    content_hash: bytes | None
    state: str
    error_code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image with its dataset. ``path`` is relative to ``folder``."""

    id: int
    dataset_id: int
    dataset: str
    folder: str
    path: str
    size: int
    mtime_ns: int
    width: int
    height: int
    state: str
    content_hash: bytes | None = None
    vector_id: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one content: vectors, or an error.

    Attributes:
        vectors: by model_id; float32, of unit length. None at all means that whoever was asked
            has none of the models.
        width, height: of the upright picture, pixels.
    """

    content_hash: bytes
    vectors: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    width: int = 0
    height: int = 0
    error_code: str | None = None
    error: str | None = None

    @property
    def quarantined(self) -> bool:
        """Whether it was put aside because workers died over it."""
        return self.error_code == "quarantined"

    @property
    def state(self) -> str:
        """The state of an image that is refused so."""
        return QUARANTINED if self.quarantined else FAILED


@dataclass(slots=True)
class BuildRecord:
    """A build and its counts; see ``schema.Build``."""

    id: int
    dataset_id: int
    model_id: str
    state: str
    total: int = 0
    added: int = 0
    unchanged: int = 0
    reused: int = 0
    failed: int = 0
    quarantined: int = 0
    missing: int = 0
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def current(self) -> int:
        """How many of ``total`` have come to an end."""
        ended = self.added + self.unchanged + self.reused
        return ended + self.failed + self.quarantined


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that is not searchable, its state and why."""

    path: str
    code: str
    error: str
    state: str
