"""FAISS: all vectors compared, or a graph that leads to the nearest ones (HNSW)."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from futu.index import faiss_file
from futu.index.base import Floats, Ids, Index
from futu.index.gate import Gate
from futu.index.policy import FLAT, HNSW_SQ8, RECALL, Plan, plan
from futu.index.rows import Rows

# The package's own type hints lack much of what its SWIG layer has.
faiss: Any = _faiss

Found = tuple[Ids, npt.NDArray[np.float32]]

LINKS = 24
"""Of a vector in the graph; twice as many in its lowest layer."""
_WIDTH_BUILDING = 100
_CHUNK = 32
_CHUNK_FLAT = 2048
_STEPS = 40
"""What a candidate of the graph costs, in comparisons of a scan; it reads from all over memory."""
_PASSED = 30
"""How many vectors a scan passes over in the time of one comparison."""
_NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True)
class Tuning:
    """What an index searches with, and what was measured when that was chosen.

    Attributes:
        width: candidates that the graph keeps in view (efSearch) for k = 10.
        width_100: the same for k = 100; between and beyond it goes by a power of k.
        depth: candidates compared again, for each neighbour asked for.
        recall: recall@10 measured, against the exact answer.
        wanted: recall@10 to be held.
        vectors: how many there were.
    """

    width: int = 64
    width_100: int = 256
    depth: float = 2.0
    recall: float = 1.0
    wanted: float = RECALL
    vectors: int = 0


@dataclass
class _Scope:
    """What was worked out from an array of allowed ids; ``count`` of them are in the index."""

    allowed: weakref.ref[Ids] | None
    changes: int
    selector: Any
    count: int


class FaissIndex(Index):
    """Inner product of float16 or, above a size, of one byte a dimension.

    The latter finds candidates only; they are compared again by the vectors that ``source``
    gives, so cosines are those of float16 in any case.

    Args:
        dimension: of the vectors.
        made: how; None: all are compared.
        training: vectors that show the range of each dimension, (n, dimension) float32; for
            one byte a dimension.

    Attributes:
        source: gives the float16 vectors of ids.
        tuning: see ``Tuning``; replaced as a whole.
        exact: compare all, whatever was tuned.
        threads: that adding may use.
    """

    def __init__(
        self, dimension: int, made: Plan | None = None, training: Floats | None = None
    ) -> None:
        made = made or plan(0, dimension)
        self.kind = made.kind
        self.reason = made.reason
        self.dimension = dimension
        self.source: Callable[[Sequence[int]], Iterator[tuple[Ids, Floats]]] | None = None
        self.tuning = Tuning()
        self.exact = False
        self.threads = 1
        self.rows = Rows()
        self.changing = threading.Lock()
        self.gate = Gate()
        self._scopes: list[_Scope] = []
        self.faiss = _empty(dimension, made.kind, training)
        self.trained = faiss.serialize_index(self.faiss).tobytes()

    def __len__(self) -> int:
        return self.rows.count

    @property
    def store(self) -> Any:
        """FAISS's index that holds the vectors."""
        return self.faiss if self.kind == FLAT else faiss.downcast_index(self.faiss.storage)

    # --- changes -----------------------------------------------------------------------------

    def add(self, ids: Ids, vectors: Floats) -> None:
        """See ``Index.add``."""
        with self.changing:
            ids = np.ascontiguousarray(ids, np.int64)
            _, first = np.unique(ids, return_index=True)
            rows = self.rows.row_of(ids[first])
            # One that was removed has its row still, and a vector never changes under its id.
            back = rows[(rows >= 0) & ~self.rows.has(ids[first])]
            if len(back):
                with self.gate.change():
                    self.rows.set_alive(back, alive=True)
            new = first[rows < 0]
            chunk = _CHUNK_FLAT if self.kind == FLAT or self.threads > 1 else _CHUNK
            for start in range(0, len(new), chunk):
                some = new[start : start + chunk]
                floats = np.ascontiguousarray(vectors[some], np.float32)
                faiss.omp_set_num_threads(self.threads)
                with self.gate.change():
                    self.faiss.add(floats)
                    self.rows.append(ids[some])

    def remove(self, ids: Ids) -> None:
        """See ``Index.remove``. The rows stay until the index is built anew."""
        with self.changing:
            gone = np.unique(ids[self.rows.has(ids)])
            if len(gone):
                with self.gate.change():
                    self.rows.set_alive(self.rows.row_of(gone), alive=False)

    def ids(self) -> Ids:
        """See ``Index.ids``."""
        with self.changing:
            return self.rows.ids()

    # --- searches ----------------------------------------------------------------------------

    def search(self, query: Floats, k: int, allowed: Ids | None = None) -> Found:
        """See ``Index.search``."""
        return self.search_as(self.tuning, query, k, allowed)

    def search_as(self, tuning: Tuning, query: Floats, k: int, allowed: Ids | None = None) -> Found:
        """As ``search``, tuned otherwise."""
        again = self.kind == HNSW_SQ8 and self.source is not None
        asked = math.ceil(k * tuning.depth) if again else k
        found = self._candidates(query, asked, _width(tuning, k), allowed)
        return self._again(query, k, found[0]) if again else found

    def search_many(self, queries: Floats, k: int, allowed: Ids | None = None) -> Found:
        """See ``Index.search_many``. By all cores; one byte a dimension is not compared again."""
        ids = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -1, np.float32)
        rows = np.ascontiguousarray(queries, np.float32)
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        with self.gate.search():
            scope = self._scope(allowed)
            k = min(k, scope.count)
            if k == 0:
                return ids, similarities
            if self.kind == FLAT or self.exact:
                found = self._compared(rows, k, scope.selector)
            else:
                # What is in the graph already leads to its copies at once: few in view are enough.
                width = math.ceil(2 * k * self.rows.used / scope.count)
                if _STEPS * width < scope.count + self.rows.used // _PASSED:
                    parameters = faiss.SearchParametersHNSW(efSearch=width, sel=scope.selector)
                    found = self.faiss.search(rows, k, params=parameters)
                else:
                    found = self._compared(rows, k, scope.selector)
            there = found[1] >= 0
            ids[:, :k][there] = self.rows.ids_of(found[1][there])
            similarities[:, :k][there] = found[0][there]
        return ids, similarities

    def _compared(self, rows: Floats, k: int, selector: Any) -> tuple[Floats, Ids]:
        parameters = faiss.SearchParameters(sel=selector)
        similarities, found = self.store.search(rows, k, params=parameters)
        return similarities, found

    def search_exactly(self, query: Floats, k: int) -> Found:
        """All vectors compared, and many candidates again, however the index is tuned."""
        if self.kind == HNSW_SQ8 and self.source is not None:
            return self._again(query, k, self.scan(query, max(4 * k, k + 50)))
        return self._candidates(query, k, None, None)

    def scan(self, query: Floats, k: int) -> Ids:
        """The nearest by what is in memory, all vectors compared."""
        return self._candidates(query, k, None, None)[0]

    def _candidates(self, query: Floats, k: int, width: int | None, allowed: Ids | None) -> Found:
        # Many search at once; threads that wait for one another spin and cost more than they help.
        faiss.omp_set_num_threads(1)
        row = np.ascontiguousarray(query[None], np.float32)
        with self.gate.search():
            scope = self._scope(allowed)
            k = min(k, scope.count)
            if k == 0:
                return _NOTHING
            rows = np.empty(0, np.int64)
            if width is not None and not self.exact and self.kind != FLAT:
                # What is allowed is as far apart as it is rare.
                width = math.ceil(max(width, k) * self.rows.used / scope.count)
                if _STEPS * width < scope.count + self.rows.used // _PASSED:
                    parameters = faiss.SearchParametersHNSW(efSearch=width, sel=scope.selector)
                    similarities, found = self.faiss.search(row, k, params=parameters)
                    rows = found[0][found[0] >= 0]
            if len(rows) < k:
                parameters = faiss.SearchParameters(sel=scope.selector)
                similarities, found = self.store.search(row, k, params=parameters)
                rows = found[0][found[0] >= 0]
            return self.rows.ids_of(rows), similarities[0][: len(rows)]

    def _again(self, query: Floats, k: int, candidates: Ids) -> Found:
        """The best of the candidates by their float16 vectors."""
        assert self.source is not None  # noqa: S101 - the caller has looked
        pieces = list(self.source(candidates.tolist())) if len(candidates) else []
        if not pieces:
            return _NOTHING
        ids = np.concatenate([piece[0] for piece in pieces])
        vectors = np.concatenate([piece[1] for piece in pieces])
        similarities = vectors.astype(np.float32) @ np.asarray(query, np.float32)
        best = np.lexsort((ids, -similarities))[:k]
        return ids[best], similarities[best]

    def _scope(self, allowed: Ids | None) -> _Scope:
        rows = self.rows
        if allowed is None and not rows.dead:
            return _Scope(None, rows.changes, None, rows.count)
        for scope in self._scopes:
            known = None if scope.allowed is None else scope.allowed()
            if known is allowed and scope.changes == rows.changes:
                return scope
        mask = rows.mask(allowed)
        count = int(np.count_nonzero(mask))
        selector = None
        if count < rows.used:
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        reference = None if allowed is None else weakref.ref(allowed)
        made = _Scope(reference, rows.changes, selector, count)
        kept = [scope for scope in self._scopes if scope.changes == rows.changes]
        self._scopes = [made, *kept[:7]]
        return made

    # --- description and file ----------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """See ``Index.parameters``."""
        fitting = plan(len(self), self.dimension)
        facts: dict[str, Any] = {
            "reason": fitting.reason if fitting.kind == self.kind else self.reason
        }
        if self.kind != FLAT:
            facts |= {"links": LINKS, **asdict(self.tuning)}
        return facts

    def memory_bytes(self) -> int:
        """See ``Index.memory_bytes``."""
        with self.gate.search():
            total = self.store.codes.size() + self.rows.memory_bytes() + len(self.trained)
            if self.kind != FLAT:
                graph = self.faiss.hnsw
                total += 4 * graph.neighbors.size() + 8 * graph.offsets.size()
                total += 4 * graph.levels.size()
        return int(total)

    def save(self, path: Path, identity: str, model_id: str, version: int = -1) -> None:
        """See ``Index.save`` and ``faiss_file``."""
        faiss_file.save(self, path, identity, model_id, version)

    @classmethod
    def load(
        cls, path: Path, identity: str, model_id: str, dimension: int
    ) -> tuple[FaissIndex, int]:
        """Read a saved index; also the version of the catalogue that it was level with.

        Raises:
            IndexDamagedError: missing, cut short, altered, of another catalogue or model; the
                message says which.
        """
        saved = faiss_file.load(path, identity, model_id, dimension)
        facts = saved.manifest.parameters
        index = cls(dimension)
        index.kind, index.reason = saved.manifest.kind, str(facts.get("reason", ""))
        index.faiss, index.trained, index.rows = saved.faiss, saved.trained, saved.rows
        known = {name: facts[name] for name in asdict(index.tuning) if name in facts}
        index.tuning = replace(index.tuning, **known)
        return index, saved.manifest.version


def _width(tuning: Tuning, k: int) -> int:
    low, high = tuning.width, max(tuning.width, tuning.width_100)
    power = math.log10(high / low)
    return max(k, math.ceil(low * math.pow(max(k, 10) / 10, power)))


def _empty(dimension: int, kind: str, training: Floats | None) -> Any:
    """An index without vectors, trained."""
    metric, codes = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer
    if kind == FLAT:
        return faiss.IndexScalarQuantizer(dimension, codes.QT_fp16, metric)
    coding = codes.QT_8bit if kind == HNSW_SQ8 else codes.QT_fp16
    graph = faiss.IndexHNSWSQ(dimension, coding, LINKS, metric)
    graph.hnsw.efConstruction = _WIDTH_BUILDING
    examples = np.zeros((1, dimension), np.float32) if training is None else training
    graph.train(np.ascontiguousarray(examples, np.float32))
    return graph
