"""The indexes of the models in use, each loaded once and brought level with the catalogue."""

from __future__ import annotations

import glob
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from futu.index.base import Ids
from futu.index.faiss_index import FaissIndex
from futu.index.live import LiveIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from futu.index.live import Fetch

    Wanted = Callable[[str], Ids]
    Version = Callable[[], int]

log = logging.getLogger(__name__)

_SUFFIX = ".faiss"


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
        path = self._folder / f"{model_id}{_SUFFIX}"
        return LiveIndex(path, self._identity, model_id, dimension)

    def use(
        self,
        models: Mapping[str, int],
        wanted: Wanted,
        fetch: Fetch,
        version: Version | None = None,
        *,
        shared: bool = True,
        later: bool = False,
    ) -> None:
        """Have the indexes of these models, brought level, and no others in memory.

        Not for two threads at once.

        Args:
            models: model_id -> dimension.
            wanted: gives the ids of a model_id.
            fetch: gives the vectors of ids.
            version: see ``level``.
            shared: whether indexes that other controllers share are brought level, too.
            later: those that were saved are not brought level here.
        """
        for model_id, dimension in models.items():
            if model_id not in self.of_model:
                live = self.make(model_id, dimension)
                live.load()
                live.attach(fetch)
                if (shared or not live.shared) and not (later and live.version >= 0):
                    self.level_one(live, wanted, fetch, version)
                self.of_model = {**self.of_model, model_id: live}
        out_of_use = [live for live in self.of_model.values() if live.model_id not in models]
        self.of_model = {key: live for key, live in self.of_model.items() if key in models}
        for live in out_of_use:
            live.close()
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
        found = [file.name.partition(_SUFFIX)[0] for file in self._folder.glob(f"*{_SUFFIX}*")]
        self.forget(model_id for model_id in set(found) if model_id not in model_ids)

    def level(
        self,
        wanted: Wanted,
        fetch: Fetch,
        version: Version | None = None,
        *,
        again: bool = False,
    ) -> None:
        """See ``LiveIndex.level``.

        Args:
            wanted: gives the ids of a model_id.
            fetch: gives the vectors of ids.
            version: of the catalogue; an index that was level with it is not compared again.
            again: it is.
        """
        for live in self.of_model.values():
            self.level_one(live, wanted, fetch, version, again=again)

    def level_one(
        self,
        live: LiveIndex,
        wanted: Wanted,
        fetch: Fetch,
        version: Version | None = None,
        *,
        again: bool = False,
    ) -> None:
        """The same for one of them."""
        now = -1 if version is None else version()
        if not again and now >= 0 and live.version == now and isinstance(live.index, FaissIndex):
            live.attach(fetch)
            live.keeper.look()
            return
        live.level(wanted(live.model_id), fetch)
        live.version = now

    def save(self) -> None:
        """See ``LiveIndex.save``."""
        for live in self.of_model.values():
            live.save()

    def save_soon(self) -> None:
        """See ``LiveIndex.save_soon``."""
        for live in self.of_model.values():
            live.save_soon()

    def close(self) -> None:
        """See ``LiveIndex.close``."""
        for live in self.of_model.values():
            live.close()
