"""An index in Milvus. On a server it is that of all controllers, and the leader keeps it level."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from futu.errors import IndexUnavailableError
from futu.index.base import Floats, Ids
from futu.index.live import LiveIndex
from futu.index.live_indexes import LiveIndexes
from futu.index.milvus_index import MilvusIndex
from futu.index.milvus_server import MilvusServer, collection_name

if TYPE_CHECKING:
    from futu.index.live import Fetch

log = logging.getLogger(__name__)


class MilvusLiveIndex(LiveIndex):
    """One model's collection. What the server misses while it is away is made up for later.

    Args:
        server: where it is.
        identity: of the catalogue.
        model_id: whose vectors these are.
        dimension: their length.
    """

    def __init__(self, server: MilvusServer, identity: str, model_id: str, dimension: int) -> None:
        name = collection_name(identity, model_id)
        super().__init__(Path(name), identity, model_id, dimension)
        self.index = MilvusIndex(server, name, dimension)
        self.shared = not server.address.embedded
        self.behind = True
        self._count = 0

    def load(self) -> None:
        """There is nothing to load."""

    def level(self, wanted: Ids, fetch: Fetch) -> None:
        """See ``LiveIndex.level``; when the server is away, it is done later."""
        try:
            self._level(wanted, fetch)
            self.behind = False
        except IndexUnavailableError:
            self.behind = True

    def _level(self, wanted: Ids, fetch: Fetch) -> None:
        extra, lacking = self.index.difference(wanted)
        # What has been added after ``wanted`` was asked for has higher ids: if another leads by
        # now, it is not taken away from it. Ids too many are found by nobody.
        extra = extra[extra <= wanted.max(initial=0)]
        if len(extra):
            self.index.remove(extra)
        for ids, vectors in fetch(lacking.tolist()):
            self.index.add(ids, vectors)
        if len(extra) or len(lacking):
            self._dirty = True
            log.info("index brought level: %d added, %d removed", len(lacking), len(extra))
        self._count = len(wanted)

    def add(self, ids: Ids, vectors: Floats) -> None:
        """See ``LiveIndex.add``; when the server is away, it is done later."""
        try:
            super().add(ids, vectors)
        except IndexUnavailableError:
            self.behind = True

    def known_count(self) -> int | None:
        """See ``LiveIndex.known_count``."""
        return None

    def look(self) -> bool:
        """Whether the index is as it was left; one that has lost vectors is behind.

        Raises:
            IndexUnavailableError: the server is away.
        """
        try:
            count = len(self.index)
        except IndexUnavailableError:
            self.behind = True
            raise
        # A server may be slow to count what was added, and never counts more than there is.
        self.behind |= count < min(self._count, 1)
        return not self.behind

    def save(self) -> None:
        """See ``MilvusIndex.save``."""
        try:
            super().save()
        except IndexUnavailableError:
            self.behind = True


class MilvusLiveIndexes(LiveIndexes):
    """The collections of the models in use.

    Args:
        server: where they are.
        identity: of the catalogue.
    """

    def __init__(self, server: MilvusServer, identity: str) -> None:
        super().__init__(Path(), identity)
        self._server = server

    def make(self, model_id: str, dimension: int) -> LiveIndex:
        """See ``LiveIndexes.make``."""
        return MilvusLiveIndex(self._server, self._identity, model_id, dimension)

    def forget(self, model_ids: Iterable[str]) -> None:
        """Remove the collections of models whose vectors are gone.

        Those that stay because the server is away are of no harm: nobody asks them.
        """
        for model_id in model_ids:
            if model_id not in self.of_model:
                name = collection_name(self._identity, model_id)
                try:
                    with self._server.connected() as client:
                        client.drop_collection(name)
                except IndexUnavailableError as error:
                    log.warning("the collection %s stays: %s", name, error)

    def forget_all_but(self, model_ids: Collection[str]) -> None:
        """Nothing: collections belong to all controllers, and the leader has removed them."""
