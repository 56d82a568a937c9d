"""Which indexes are in memory: those of the models that serve a dataset, or are to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from futu.catalogue.records import ModelRecord
from futu.catalogue.store import Catalogue
from futu.controller.serving import Serving
from futu.index.live import LiveIndex
from futu.index.live_indexes import LiveIndexes

log = logging.getLogger(__name__)

_LEVEL_AT_ONCE_S = 0.3
"""To compare a million ids with the catalogue's takes longer, and searches need not wait for it."""


class UsedIndexes:
    """The indexes of the models in use, level with the catalogue.

    Args:
        catalogue: what they are derived from.
        serving: which models are in use.
        indexes: those in memory.

    Attributes:
        lock: held while catalogue and index are changed together.
        models_lock: held while it changes which models are in use.
    """

    def __init__(self, catalogue: Catalogue, serving: Serving, indexes: LiveIndexes) -> None:
        self._catalogue = catalogue
        self._serving = serving
        self._indexes = indexes
        self.lock = threading.Lock()
        self.models_lock = threading.RLock()
        self._levelling = ThreadPoolExecutor(1, thread_name_prefix="level")

    def begin(self, *, shared: bool = True) -> None:
        """As ``use``, and bring all level; what was saved is searched if that takes long."""
        self.use(shared=shared, later=True)
        levelling = self._levelling.submit(self.level, shared=shared)
        try:
            levelling.result(_LEVEL_AT_ONCE_S)
        except TimeoutError:
            log.info("the indexes are searched as they were saved, and brought level meanwhile")
            levelling.add_done_callback(_tell_failure)

    def close(self) -> None:
        """Wait for what is brought level."""
        self._levelling.shutdown()

    def use(
        self, also: Iterable[ModelRecord] = (), *, shared: bool = True, later: bool = False
    ) -> None:
        """Have the indexes of the models in use in memory, and no others.

        Args:
            also: models that are to be in use in a moment.
            shared: whether indexes of all controllers are brought level, too.
            later: see ``LiveIndexes.use``.
        """
        with self.models_lock:
            models = self._serving.in_use()
            models.update((model.model_id, model) for model in also)
            if set(models) != set(self._indexes.of_model):
                with self.lock:
                    self._indexes.use(
                        {model_id: model.dimension for model_id, model in models.items()},
                        self._catalogue.searchable_vector_ids,
                        self._catalogue.vectors,
                        self._catalogue.version,
                        shared=shared,
                        later=later,
                    )

    def follow(self) -> None:
        """Another controller has changed which models are in use: do so, too.

        What is asked for from now on is in memory before anyone can know of it.
        """
        with self.models_lock:
            self.use(self._serving.in_use_now().values(), shared=False)
            self._catalogue.models_changed()
            self._catalogue.changed()
            self.use(shared=False)
            self._indexes.forget_all_but(self._catalogue.stored_vector_models())

    def level(self, *, shared: bool = True, again: bool = False) -> None:
        """Bring all of them level with the catalogue; see ``use`` and ``LiveIndexes.level``."""
        with self.lock:
            for live in self._indexes.of_model.values():
                if shared or not live.shared:
                    self._level(live, again=again)

    def level_one(self, live: LiveIndex) -> None:
        """Bring one of them level."""
        with self.lock:
            self._level(live)

    def level_of(self, model: ModelRecord) -> LiveIndex | None:
        """The index of a model, level with the catalogue; None: the model is not in use."""
        live = self._indexes.of_model.get(model.model_id)
        if live is not None and live.behind:
            self.level_one(live)
        return live

    def _level(self, live: LiveIndex, *, again: bool = False) -> None:
        self._indexes.level_one(
            live,
            self._catalogue.searchable_vector_ids,
            self._catalogue.vectors,
            self._catalogue.version,
            again=again,
        )


def _tell_failure(levelling: Future[None]) -> None:
    if (error := levelling.exception()) is not None:
        log.error("an index could not be brought level; the next build does it", exc_info=error)
