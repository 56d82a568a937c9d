"""The seam for nearest-neighbour engines. What is in an index is derived from the catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Manifest:
    """What an index file says of itself.

    Attributes:
        identity: of the catalogue it was derived from.
        count: number of vectors.
        sha256: of the index file, hex.
    """

    identity: str
    model_id: str
    dimension: int
    count: int
    kind: str
    sha256: str


class Index(ABC):
    """Vectors of one model by id. Safe for several threads."""

    dimension: int
    kind: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of vectors."""

    @abstractmethod
    def add(self, ids: Ids, vectors: Floats) -> None:
        """Add vectors of unit length, (n, dimension); ids already there are passed over."""

    @abstractmethod
    def remove(self, ids: Ids) -> None:
        """Remove vectors; ids not there are passed over."""

    @abstractmethod
    def search(
        self, query: Floats, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, npt.NDArray[np.float32]]:
        """The nearest neighbours of one vector.

        Args:
            query: shape (dimension,), unit length.
            k: how many at most.
            allowed: only these ids, ascending; None for all.

        Returns:
            ids and cosine similarities, best first, at most k.
        """

    @abstractmethod
    def ids(self) -> Ids:
        """All ids, ascending."""

    @abstractmethod
    def save(self, path: Path, identity: str, model_id: str) -> None:
        """Write index and manifest so that a crash leaves the old or the new, never a mixture."""
