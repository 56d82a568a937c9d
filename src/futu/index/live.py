"""The indexes in use: loaded once, brought level with the catalogue, saved when changed."""

from __future__ import annotations

import glob
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from futu.errors import IndexDamagedError
from futu.index.base import Floats, Ids, Index
from futu.index.faiss_index import FaissIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Fetch = Callable[[Sequence[int]], Iterator[tuple[Ids, Floats]]]
    Wanted = Callable[[str], Ids]

log = logging.getLogger(__name__)

_SUFFIX = ".faiss"


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


class LiveIndexes:
    """The indexes of the models in use. Vectors of different models never meet: each has its own.

    Args:
        folder: where the files are.
        identity: of the catalogue.

    Attributes:
        of_model: by model_id. Replaced, never changed: who has taken an index from it may go on
            searching that after its model has gone out of use.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        self.of_model: Mapping[str, LiveIndex] = {}

    def make(self, model_id: str, dimension: int) -> LiveIndex:
        """The index of a model, not loaded."""
        return LiveIndex(self._path(model_id), self._identity, model_id, dimension)

    def _path(self, model_id: str) -> Path:
        return self._folder / f"{model_id}{_SUFFIX}"

    def use(
        self, models: Mapping[str, int], wanted: Wanted, fetch: Fetch, *, shared: bool = True
    ) -> None:
        """Have the indexes of these models, brought level, and no others in memory.

        Not for two threads at once.

        Args:
            models: model_id -> dimension.
            wanted: gives the ids of a model_id.
            fetch: gives the vectors of ids.
            shared: whether indexes that other controllers share are brought level, too.
        """
        for model_id, dimension in models.items():
            if model_id not in self.of_model:
                live = self.make(model_id, dimension)
                live.load()
                if shared or not live.shared:
                    live.level(wanted(model_id), fetch)
                self.of_model = {**self.of_model, model_id: live}
        out_of_use = [live for live in self.of_model.values() if live.model_id not in models]
        self.of_model = {key: live for key, live in self.of_model.items() if key in models}
        for live in out_of_use:
            live.save()
            log.info("index %s is out of use", live.path.name)

    def forget(self, model_ids: Iterable[str]) -> None:
        """Remove the files of models whose vectors are gone."""
        for model_id in model_ids:
            if model_id not in self.of_model:
                for file in self._folder.glob(f"{glob.escape(model_id)}{_SUFFIX}*"):
                    file.unlink(missing_ok=True)

    def forget_all_but(self, model_ids: Collection[str]) -> None:
        """Remove the files of all models but these and those in use."""
        found = [file.name.removesuffix(_SUFFIX) for file in self._folder.glob(f"*{_SUFFIX}")]
        self.forget(model_id for model_id in found if model_id not in model_ids)

    def level(self, wanted: Wanted, fetch: Fetch) -> None:
        """See ``LiveIndex.level``; ``wanted`` gives the ids of a model_id."""
        for live in self.of_model.values():
            live.level(wanted(live.model_id), fetch)

    def save(self) -> None:
        """See ``LiveIndex.save``."""
        for live in self.of_model.values():
            live.save()
