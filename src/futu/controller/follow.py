"""Following the catalogue: what other controllers write, and an index server that was away.

Each controller has caches, and with FAISS an index of its own, all derived from the catalogue.
The leader keeps its own level as it writes. The others look a few times a second how many writes
there have been; when there are more, they let go of their caches and add new vectors, and after
the end of a build they compare all ids, as the leader does then. When it was changed which models
are in use, they have their indexes before they say so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from futu.catalogue.store import Catalogue
from futu.controller.used_indexes import UsedIndexes
from futu.errors import CatalogueUnavailableError, IndexUnavailableError
from futu.index.live import LiveIndex
from futu.index.live_indexes import LiveIndexes
from futu.index.milvus_live import MilvusLiveIndex

log = logging.getLogger(__name__)

_LOOK_S = 0.3
_LOOK_AT_SERVER_S = 3.0
_SAVE_S = 60.0


class Follower:
    """Looks until it is stopped.

    Args:
        catalogue: what is followed.
        indexes: what is brought level with it.
        used: has those of the models in use in memory.
        leads: whether this controller leads.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        indexes: LiveIndexes,
        used: UsedIndexes,
        leads: Callable[[], bool],
    ) -> None:
        self._catalogue = catalogue
        self._indexes = indexes
        self._used = used
        self._leads = leads
        self._writes = self._model_changes = -1
        self._last_vector = 0
        self._last_end: datetime | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    def start(self) -> None:
        """Have the indexes of the models in use, bring them level, then look on."""
        self._last_vector = self._catalogue.last_vector_id()
        self._used.begin(shared=False)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        rounds = 0
        while not self._stop.wait(_LOOK_S):
            rounds += 1
            try:
                if self._catalogue.shared:
                    self._look()
                if rounds % int(_LOOK_AT_SERVER_S / _LOOK_S) == 0:
                    self._look_at_server()
                if rounds % int(_SAVE_S / _LOOK_S) == 0 and not self._leads():
                    self._save()
            except CatalogueUnavailableError as error:
                log.debug("the catalogue is followed again when it is back: %s", error)
            except Exception:
                log.exception("the catalogue cannot be followed; trying again")

    # --- the catalogue -----------------------------------------------------------------------

    def _look(self) -> None:
        writes, model_changes = self._catalogue.writes()
        if writes == self._writes:
            return
        if self._leads():
            # Adds what it writes, and compares at the beginning of its term.
            if model_changes != self._model_changes:
                self._catalogue.models_changed()  # an import, for one
                self._used.use()
            self._catalogue.changed()
            self._last_vector = self._catalogue.last_vector_id()
        else:
            models_changed = model_changes != self._model_changes
            if models_changed:
                self._used.follow()
            self._catalogue.changed()
            if self._own():
                last_end = self._catalogue.last_end()
                if models_changed or last_end != self._last_end:
                    self._level_all()
                else:
                    self._add_new()
                self._last_end = last_end
        self._writes, self._model_changes = writes, model_changes

    def _add_new(self) -> None:
        new = self._catalogue.new_vectors(self._last_vector)
        for model_id, ids in new.items():
            live = self._indexes.of_model.get(model_id)
            if live is not None and not live.shared:
                with self._used.lock:
                    for found, vectors in self._catalogue.vectors(ids.tolist()):
                        live.add(found, vectors)
        self._last_vector = max([self._last_vector, *(int(ids[-1]) for ids in new.values())])

    def _level_all(self) -> None:
        last_vector = self._catalogue.last_vector_id()
        for live in self._own():
            self._used.level_one(live)
        self._last_vector = last_vector

    def _own(self) -> list[LiveIndex]:
        return [live for live in self._indexes.of_model.values() if not live.shared]

    def _save(self) -> None:
        for live in self._own():
            live.save()

    # --- an index server -----------------------------------------------------------------------

    def _look_at_server(self) -> None:
        for live in self._indexes.of_model.values():
            if not isinstance(live, MilvusLiveIndex) or (live.shared and not self._leads()):
                continue
            try:
                if not live.look():
                    self._used.level_one(live)
            except IndexUnavailableError as error:
                log.debug("%s", error)
