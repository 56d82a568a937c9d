"""The indexes in use: loaded once, brought level with the catalogue, saved when changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from futu.errors import IndexDamagedError
from futu.index.base import Floats, Ids, Index
from futu.index.faiss_index import FaissIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Fetch = Callable[[Sequence[int]], Iterator[tuple[Ids, Floats]]]

log = logging.getLogger(__name__)


class LiveIndex:
    """One model's index file and the index loaded from it.

    A vector never changes under its id and ids are never used twice, so two sets of ids that
    are equal mean two indexes that are equal: bringing the index level is a set difference.

    Args:
        path: the index file.
        identity: of the catalogue.
        model_id: whose vectors these are.
        dimension: their length.

    Attributes:
        shared: whether other controllers search and change the same index.
        behind: whether it may lack vectors until it has been brought level.
    """

    shared: bool = False
    behind: bool = False
    index: Index

    def __init__(self, path: Path, identity: str, model_id: str, dimension: int) -> None:
        self.path = path
        self.model_id = model_id
        self._identity = identity
        self.dimension = dimension
        self._save_lock = threading.Lock()
        self._dirty = False
        self.index = FaissIndex(dimension)

    def load(self) -> None:
        """Read the file; one that cannot be used is passed over, and the log says why."""
        try:
            self.index = FaissIndex.load(self.path, self._identity, self.model_id, self.dimension)
            log.info("loaded index %s: %d vectors", self.path.name, len(self.index))
        except IndexDamagedError as error:
            self.index = FaissIndex(self.dimension)
            log.info("index is rebuilt from the catalogue: %s", error)

    def level(self, wanted: Ids, fetch: Fetch) -> None:
        """Make the index hold exactly these ids; ``fetch`` gives the vectors of ids."""
        present = self.index.ids()
        extra = np.setdiff1d(present, wanted, assume_unique=True)
        lacking = np.setdiff1d(wanted, present, assume_unique=True)
        if len(extra):
            self.index.remove(extra)
        for ids, vectors in fetch(lacking.tolist()):
            self.index.add(ids, vectors)
        if len(extra) or len(lacking):
            self._dirty = True
            log.info("index brought level: %d added, %d removed", len(lacking), len(extra))

    def add(self, ids: Ids, vectors: Floats) -> None:
        """Add vectors that the catalogue already holds."""
        self.index.add(ids, vectors)
        self._dirty = True

    def save(self) -> None:
        """Write the file if the index has changed since the last time."""
        with self._save_lock:
            if not self._dirty:
                return
            self._dirty = False
            self.index.save(self.path, self._identity, self.model_id)
            log.info("saved index %s: %d vectors", self.path.name, len(self.index))


class LiveIndexes(Mapping[str, LiveIndex]):
    """The index of each question. Vectors of different models never meet: each has its own file.

    Args:
        folder: where the files are.
        identity: of the catalogue.
        models: question -> model_id and dimension.
        make: makes the index of a model_id and a dimension; None: a file in the folder.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        models: Mapping[str, tuple[str, int]],
        make: Callable[[str, int], LiveIndex] | None = None,
    ) -> None:
        def in_file(model_id: str, dimension: int) -> LiveIndex:
            return LiveIndex(folder / f"{model_id}.faiss", identity, model_id, dimension)

        make = make or in_file
        self._by_question = {
            question: make(model_id, dimension)
            for question, (model_id, dimension) in models.items()
        }
        self.of_model = {live.model_id: live for live in self._by_question.values()}

    def __getitem__(self, question: str) -> LiveIndex:
        return self._by_question[question]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_question)

    def __len__(self) -> int:
        return len(self._by_question)

    def load(self) -> None:
        """See ``LiveIndex.load``."""
        for live in self.values():
            live.load()

    def level(self, wanted: Callable[[str], Ids], fetch: Fetch) -> None:
        """See ``LiveIndex.level``; ``wanted`` gives the ids of a model_id."""
        for live in self.values():
            live.level(wanted(live.model_id), fetch)

    def save(self) -> None:
        """See ``LiveIndex.save``."""
        for live in self.values():
            live.save()
