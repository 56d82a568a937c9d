"""The indexes in use: loaded once, brought level with the catalogue, saved when changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from futu.errors import IndexDamagedError
from futu.index import faiss_file
from futu.index.base import Floats, Ids, Index
from futu.index.faiss_index import FaissIndex
from futu.index.keeper import Keeper
from futu.index.policy import FLAT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Fetch = Callable[[Sequence[int]], Iterator[tuple[Ids, Floats]]]

log = logging.getLogger(__name__)

_SAVE_SHARE = 0.05
"""A big file is written when so much of it has changed; the rest is caught up at the next start."""


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
        index: what is searched; replaced when it has been built anew.
        keeper: measures it and builds it anew.
        version: of the catalogue when the index was last level with it; -1: not known.
        save_error: why the last attempt to save failed; empty: it did not.
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
        self._saver: threading.Thread | None = None
        self._swap_lock = threading.Lock()
        self._dirty = False
        self._changed = 0
        self._saved_version = -1
        self.version = -1
        self.save_error = ""
        self.index = FaissIndex(dimension)
        self.keeper = Keeper(self)

    def load(self) -> None:
        """Read the file; one that cannot be used is passed over, and the log says why."""
        begun = time.monotonic()
        try:
            loaded, self.version = FaissIndex.load(
                self.path, self._identity, self.model_id, self.dimension
            )
            self._saved_version = self.version
            self.index = loaded
            log.info(
                "loaded index %s: %s, %d vectors, in %.2f s",
                self.path.name, loaded.kind, len(loaded), time.monotonic() - begun,
            )  # fmt: skip
        except IndexDamagedError as error:
            self.index = FaissIndex(self.dimension)
            self.version = -1
            log.info("index is rebuilt from the catalogue: %s", error)

    def attach(self, fetch: Fetch) -> None:
        """Say where the vectors of ids come from."""
        if isinstance(self.index, FaissIndex):
            self.index.source = fetch

    def level(self, wanted: Ids, fetch: Fetch) -> None:
        """Make the index hold exactly these ids; ``fetch`` gives the vectors of ids."""
        self.attach(fetch)
        with self._swap_lock:
            extra, lacking = self.index.difference(wanted)
            if len(extra):
                self.index.remove(extra)
            for ids, vectors in fetch(lacking.tolist()):
                self.index.add(ids, vectors)
            self._touched(len(extra) + len(lacking))
        if len(extra) or len(lacking):
            log.info("index brought level: %d added, %d removed", len(lacking), len(extra))
        self.keeper.look()

    def add(self, ids: Ids, vectors: Floats) -> None:
        """Add vectors that the catalogue already holds."""
        with self._swap_lock:
            self.index.add(ids, vectors)
            self._touched(len(ids))
        self.keeper.look()

    def remove(self, ids: Ids) -> None:
        """Remove vectors that the catalogue has no use for any more."""
        with self._swap_lock:
            self.index.remove(ids)
            self._touched(len(ids))
        self.keeper.look()

    def swap(self, index: FaissIndex, catch_up: Callable[[FaissIndex, Index], None]) -> None:
        """Search another index from now on.

        Args:
            index: the new one.
            catch_up: gives it what the present one has got meanwhile; nothing changes then.
        """
        with self._swap_lock:
            catch_up(index, self.index)
            self.index = index
            self._touched(len(index))

    def _touched(self, changes: int) -> None:
        if changes:
            self._dirty = True
            self._changed += changes

    def save(self) -> None:
        """Write the file if the index has changed since the last time.

        When it cannot be written the former file stays, the log says why, and the next call tries
        again.
        """
        with self._save_lock:
            changed, version = self._changed, self.version
            try:
                if self._dirty or (version >= 0 and self._saved_version < 0):
                    self._dirty, self._changed = False, 0
                    self.index.save(self.path, self._identity, self.model_id, version)
                    log.info("saved index %s: %d vectors", self.path.name, len(self.index))
                elif version != self._saved_version and isinstance(self.index, FaissIndex):
                    faiss_file.touch(self.path, version)
                self._saved_version, self.save_error = version, ""
            except (OSError, IndexDamagedError) as error:
                self._dirty, self._changed = True, self._changed + changed
                self.save_error = f"{self.path} cannot be saved ({error}). The former file stays."
                log.warning("%s Make room; it is tried again.", self.save_error)

    def save_soon(self) -> None:
        """Write the file in the background, if enough has changed to be worth it."""
        big = self.index.kind != FLAT
        if not self._dirty or (big and self._changed < _SAVE_SHARE * len(self.index)):
            return
        if self._saver is None or not self._saver.is_alive():
            self._saver = threading.Thread(target=self.save, name="save index", daemon=True)
            self._saver.start()

    @property
    def searched_exactly(self) -> bool:
        """Whether each search compares all vectors."""
        return self.index.kind == FLAT or (isinstance(self.index, FaissIndex) and self.index.exact)

    def facts(self) -> dict[str, Any]:
        """What there is to know, JSON-serialisable."""
        return {
            "model_id": self.model_id,
            "kind": self.index.kind,
            "vectors": len(self.index),
            "dimension": self.dimension,
            "memory_bytes": self.index.memory_bytes(),
            "file_bytes": faiss_file.file_bytes(self.path),
            "exact": self.searched_exactly,
            "parameters": self.index.parameters(),
            "save_error": self.save_error,
            **self.keeper.facts(),
        }

    def close(self) -> None:
        """End what is done in the background."""
        self.keeper.stop()


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

    def level(
        self,
        wanted: Callable[[str], Ids],
        fetch: Fetch,
        version: Callable[[], int] | None = None,
    ) -> None:
        """See ``LiveIndex.level``.

        Args:
            wanted: gives the ids of a model_id.
            fetch: gives the vectors of ids.
            version: of the catalogue; an index that was level with it is not compared again.
        """
        for live in self.values():
            now = -1 if version is None else version()
            if now >= 0 and live.version == now and isinstance(live.index, FaissIndex):
                live.attach(fetch)
                live.keeper.look()
                continue
            live.level(wanted(live.model_id), fetch)
            live.version = now

    def save(self) -> None:
        """See ``LiveIndex.save``."""
        for live in self.values():
            live.save()

    def save_soon(self) -> None:
        """See ``LiveIndex.save_soon``."""
        for live in self.values():
            live.save_soon()

    def close(self) -> None:
        """See ``LiveIndex.close``."""
        for live in self.values():
            live.close()
