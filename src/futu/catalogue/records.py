"""What the catalogue gives and takes: plain records, so that no one outside it sees a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

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
    watched: bool = False


class KnownFile(NamedTuple):
    """What is known of a file of a dataset; ``vector_id`` is None while it has no vector."""

    id: int
    size: int
    mtime_ns: int
    content_hash: bytes | None
    state: str
    error_code: str | None
    vector_id: int | None
    scanned_at_ns: int


class StoredVector(NamedTuple):
    """A searchable image and its vector, if it has one; ``size`` in bytes."""

    path: str
    vector_id: int | None
    size: int | None


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A new or changed file as the scan found it, to be written.

    ``scanned_at_ns``: when its content was hashed, nanoseconds since 1970.
    """

    path: str
    size: int
    mtime_ns: int
    content_hash: bytes | None
    state: str
    error_code: str | None = None
    error: str | None = None
    scanned_at_ns: int = 0


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
class Scope:
    """Which images a search is about: those of these datasets that meet every bound given.

    Attributes:
        dataset_ids: ascending.
        path_prefix: what the path relative to the dataset's folder begins with.
        after_ns, before_ns: of the file's modification time, nanoseconds since the epoch; the
            first is inclusive, the second exclusive.
        min_size, max_size: of the file, bytes, inclusive.
        min_width, max_width, min_height, max_height: of the upright picture, pixels, inclusive.
    """

    dataset_ids: tuple[int, ...]
    path_prefix: str = ""
    after_ns: int | None = None
    before_ns: int | None = None
    min_size: int | None = None
    max_size: int | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None

    def admits(self, image: ImageRecord) -> bool:
        """Whether a searchable image is in the scope."""
        return (
            image.dataset_id in self.dataset_ids
            and image.path.startswith(self.path_prefix)
            and (self.after_ns is None or image.mtime_ns >= self.after_ns)
            and (self.before_ns is None or image.mtime_ns < self.before_ns)
            and _within(image.size, self.min_size, self.max_size)
            and _within(image.width, self.min_width, self.max_width)
            and _within(image.height, self.min_height, self.max_height)
        )


def _within(value: int, least: int | None, most: int | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


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
    confirm_missing: bool = False
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
