"""The seam for nearest-neighbour engines. What is in an index is derived from the catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Manifest:
    """What an index file says of itself.

    Attributes:
        identity: of the catalogue it was derived from.
        version: of the catalogue when the index was last level with it; -1: never.
        count: number of vectors.
        parameters: those that the kind has, and why it was chosen.
        checksum: of the index file.
    """

    identity: str
    version: int
    model_id: str
    dimension: int
    count: int
    kind: str
    parameters: dict[str, Any]
    checksum: str


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
            allowed: only these ids, ascending; None for all. What is worked out from it may be
                kept as long as the array lives, so it is not to be changed afterwards.

        Returns:
            ids and cosine similarities, best first, at most k.
        """

    def search_many(
        self, queries: Floats, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, npt.NDArray[np.float32]]:
        """The nearest neighbours of many vectors that the index has, to find their copies.

        In less time than by one search for each, and less thorough: copies are found, neighbours
        that are far off may be left out. Similarities are the index's own, so they may be a little
        off; compare the vectors where that matters.

        Args:
            queries: shape (n, dimension), unit length. Searches and changes by others wait for at
                most one call, so n should be some hundreds.
            k: how many at most.
            allowed: as for ``search``.

        Returns:
            ids, int64, and cosine similarities, float32, both of shape (n, k), best first; where
            there are fewer than k the id is -1 and the similarity -1.
        """
        ids = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -1, np.float32)
        for row, query in enumerate(queries):
            found, cosines = self.search(query, k, allowed)
            ids[row, : len(found)] = found
            similarities[row, : len(found)] = cosines
        return ids, similarities

    @abstractmethod
    def ids(self) -> Ids:
        """All ids, ascending."""

    @abstractmethod
    def save(self, path: Path, identity: str, model_id: str, version: int = -1) -> None:
        """Write index and manifest so that a crash leaves the old or the new, never a mixture.

        Searches and changes go on meanwhile.

        Raises:
            OSError: it cannot be written, a full disk for one; what was there stays.
        """

    def difference(self, wanted: Ids) -> tuple[Ids, Ids]:
        """What is here and not wanted, and what is wanted and not here.

        Args:
            wanted: ids, ascending.
        """
        present = self.ids()
        return (
            np.setdiff1d(present, wanted, assume_unique=True),
            np.setdiff1d(wanted, present, assume_unique=True),
        )

    def parameters(self) -> dict[str, Any]:
        """What the kind is tuned by, for people to read; JSON-serialisable."""
        return {}

    def memory_bytes(self) -> int:
        """Memory of this process that the index takes, bytes."""
        return 0
