"""Which indexes are in memory: those of the models that serve a dataset, or are to."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from futu.catalogue.records import ModelRecord
from futu.catalogue.store import Catalogue
from futu.controller.serving import Serving
from futu.index.live import LiveIndex
from futu.index.live_indexes import LiveIndexes


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

    def use(self, also: Iterable[ModelRecord] = (), *, shared: bool = True) -> None:
        """Have the indexes of the models in use in memory, and no others.

        Args:
            also: models that are to be in use in a moment.
            shared: whether indexes of all controllers are brought level, too.
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

    def level(self, *, again: bool = False) -> None:
        """Bring all of them level with the catalogue; see ``LiveIndexes.level``."""
        with self.lock:
            self._indexes.level(
                self._catalogue.searchable_vector_ids,
                self._catalogue.vectors,
                self._catalogue.version,
                again=again,
            )

    def level_one(self, live: LiveIndex) -> None:
        """Bring one of them level."""
        with self.lock:
            self._indexes.level_one(
                live,
                self._catalogue.searchable_vector_ids,
                self._catalogue.vectors,
                self._catalogue.version,
            )
