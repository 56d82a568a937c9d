"""Milvus, approximate: HNSW under inner product; one collection for each model and catalogue."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from futu.errors import IndexUnavailableError
from futu.index.base import Floats, Ids, Index
from futu.index.milvus_server import TIMEOUT_S, MilvusServer

_WRITE_TIMEOUT_S = 60.0
_ROWS = 1000
"""Vectors in one request; with the longest of them (2048 numbers) that is 8 MB."""

_MOST_NEIGHBOURS = 16_384
"""Milvus gives no more from one search, and no more ids from one query."""

_MOST_QUERIES = 64
"""In one call, so that it ends in time."""
_MOST_NAMED = 8_192
"""Ids in one filter expression; about 60 kB of text."""

_INDEX = {"M": 16, "efConstruction": 200}
_LEAST_EF = 256
_GROWTH = 8

Found = tuple[Ids, npt.NDArray[np.float32]]


class MilvusIndex(Index):
    """Vectors in a collection that all controllers of a catalogue share.

    Milvus has the ids and nothing of datasets: one vector may belong to many, and what belongs
    where is the catalogue's to say. A few allowed ids are named in the filter. Of many allowed
    ids so many of the nearest are fetched that enough of them are allowed; when even the most
    that Milvus gives are not enough, the allowed ids are named piece by piece, and the best of
    all pieces are the best of all.

    Every method raises ``IndexUnavailableError`` when Milvus does not answer.

    Args:
        server: where it is.
        collection: made when it is not there.
        dimension: of the vectors.
    """

    kind = "milvus-hnsw"

    def __init__(self, server: MilvusServer, collection: str, dimension: int) -> None:
        self.dimension = dimension
        self.collection = collection
        self._server = server
        self._making = threading.Lock()
        self._known: tuple[Any, int] = (None, 0)

    def __len__(self) -> int:
        with self._server.connected() as client:
            self._ready(client)
            rows = client.query(
                self.collection,
                filter="",
                output_fields=["count(*)"],
                timeout=TIMEOUT_S,
            )
        return int(rows[0]["count(*)"])

    def add(self, ids: Ids, vectors: Floats) -> None:
        """See ``Index.add``. A vector never changes under its id, so replacing is passing over."""
        unique, rows = np.unique(ids, return_index=True)
        with self._server.connected() as client:
            self._ready(client, _WRITE_TIMEOUT_S)
            for start in range(0, len(unique), _ROWS):
                piece = rows[start : start + _ROWS]
                found = np.asarray(vectors[piece], np.float32)
                client.upsert(
                    self.collection,
                    [
                        {"id": key, "vector": vector}
                        for key, vector in zip(ids[piece].tolist(), found)
                    ],
                    timeout=_WRITE_TIMEOUT_S,
                )

    def remove(self, ids: Ids) -> None:
        """See ``Index.remove``."""
        with self._server.connected() as client:
            self._ready(client, _WRITE_TIMEOUT_S)
            for start in range(0, len(ids), _MOST_NAMED):
                client.delete(
                    self.collection,
                    ids=ids[start : start + _MOST_NAMED].tolist(),
                    timeout=_WRITE_TIMEOUT_S,
                )

    def search(self, query: Floats, k: int, allowed: Ids | None = None) -> Found:
        """See ``Index.search``."""
        if k < 1 or (allowed is not None and len(allowed) == 0):
            return _NOTHING
        if allowed is None:
            return self._search(query, k)
        if len(allowed) <= _MOST_NAMED:
            return self._search(query, k, allowed)
        limit = min(_MOST_NEIGHBOURS, 2 * k)
        while True:
            ids, similarities = self._search(query, limit)
            good = _among(ids, allowed)
            if np.count_nonzero(good) >= k or len(ids) < limit:
                return ids[good][:k], similarities[good][:k]
            if limit == _MOST_NEIGHBOURS:
                return self._search_pieces(query, k, allowed)
            limit = min(_MOST_NEIGHBOURS, limit * _GROWTH)

    def search_many(self, queries: Floats, k: int, allowed: Ids | None = None) -> Found:
        """See ``Index.search_many``."""
        named = allowed is not None and len(allowed) <= _MOST_NAMED
        if k < 1 or not (allowed is None or named):
            return super().search_many(queries, k, allowed)
        ids = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -1, np.float32)
        for start in range(0, len(queries), _MOST_QUERIES):
            some = self._hits(queries[start : start + _MOST_QUERIES], k, allowed)
            for row, (found, cosines) in enumerate(some, start):
                ids[row, : len(found)], similarities[row, : len(found)] = found, cosines
        return ids, similarities

    def _search_pieces(self, query: Floats, k: int, allowed: Ids) -> Found:
        found = [
            self._search(query, k, allowed[start : start + _MOST_NAMED])
            for start in range(0, len(allowed), _MOST_NAMED)
        ]
        ids = np.concatenate([ids for ids, _ in found])
        similarities = np.concatenate([similarities for _, similarities in found])
        best = np.argsort(-similarities, kind="stable")[:k]
        return ids[best], similarities[best]

    def _search(self, query: Floats, limit: int, allowed: Ids | None = None) -> Found:
        return self._hits(np.asarray(query)[None], limit, allowed)[0]

    def _hits(self, queries: Floats, limit: int, allowed: Ids | None) -> list[Found]:
        limit = min(limit, _MOST_NEIGHBOURS)
        named = "" if allowed is None else f"id in {allowed.tolist()}"
        with self._server.connected() as client:
            self._ready(client)
            found = client.search(
                self.collection,
                data=list(np.asarray(queries, np.float32)),
                filter=named,
                limit=limit,
                output_fields=["id"],
                search_params={"metric_type": "IP", "params": {"ef": max(_LEAST_EF, 2 * limit)}},
                # What this controller has added is found; what another has, in a moment.
                consistency_level="Session",
                timeout=TIMEOUT_S,
            )
        return [
            (
                np.array([hit["id"] for hit in hits], np.int64),
                np.array([hit["distance"] for hit in hits], np.float32),
            )
            for hits in found
        ]

    def ids(self) -> Ids:
        """See ``Index.ids``. All of them travel: for bringing the index level, not for searches."""
        found = [np.empty(0, np.int64)]
        with self._server.connected() as client:
            self._ready(client, _WRITE_TIMEOUT_S)
            pages = client.query_iterator(
                self.collection,
                batch_size=_MOST_NEIGHBOURS,
                output_fields=["id"],
                consistency_level="Strong",
                timeout=_WRITE_TIMEOUT_S,
            )
            try:
                while page := pages.next():
                    found.append(np.array([row["id"] for row in page], np.int64))
            finally:
                pages.close()
        return np.unique(np.concatenate(found))

    def save(self, path: Path, identity: str, model_id: str, version: int = -1) -> None:
        """Ask Milvus to seal what was added, which makes it quicker to search; there is no file."""
        with self._server.connected() as client:
            self._ready(client, _WRITE_TIMEOUT_S)
            client.flush(self.collection, timeout=_WRITE_TIMEOUT_S)

    def parameters(self) -> dict[str, Any]:
        """See ``Index.parameters``."""
        return {**_INDEX, "collection": self.collection, "server": self._server.address.uri}

    def drop(self) -> None:
        """Remove the collection."""
        with self._server.connected() as client:
            client.drop_collection(self.collection, timeout=TIMEOUT_S)
            self._known = (None, 0)

    def _ready(self, client: Any, timeout_s: float = TIMEOUT_S) -> None:
        """Make the collection, or have it loaded, once; again after a failure."""
        now = (client, self._server.losses)
        if self._known == now:
            return
        if not self._making.acquire(timeout=timeout_s):
            raise IndexUnavailableError(
                "Milvus is still loading the collection; try again in a moment.",
                collection=self.collection,
            )
        try:
            if self._known == now:
                return
            there = client.has_collection(self.collection, timeout=self._server.probe_timeout_s())
            self._server.answered()
            if not there:
                self._create(client, timeout_s)
            client.load_collection(self.collection, timeout=timeout_s)
            self._known = now
        finally:
            self._making.release()

    def _create(self, client: Any, timeout_s: float) -> None:
        from pymilvus import DataType
        from pymilvus.exceptions import MilvusException

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=_INDEX)
        try:
            client.create_collection(
                self.collection, schema=schema, index_params=index, timeout=timeout_s
            )
        except MilvusException:
            # Another controller may have made it in this moment.
            if not client.has_collection(self.collection, timeout=timeout_s):
                raise


_NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.float32))


def _among(ids: Ids, allowed: Ids) -> npt.NDArray[np.bool_]:
    """Which of these are in an ascending array."""
    at = np.minimum(np.searchsorted(allowed, ids), len(allowed) - 1)
    return np.asarray(allowed[at] == ids)
