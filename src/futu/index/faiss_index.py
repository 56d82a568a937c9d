"""FAISS: vectors in lists by likeness, or in one list that is scanned whole."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from futu.index import faiss_file
from futu.index.base import Floats, Ids, Index
from futu.index.gate import Gate
from futu.index.policy import FLAT, IVF_SQ8, Plan

# The package's own type hints lack much of what its SWIG layer has.
faiss: Any = _faiss

Found = tuple[Ids, npt.NDArray[np.float32]]

_CHUNK = 2048
_NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True)
class Tuning:
    """What was measured when an index was tuned, and what it searches with since.

    Attributes:
        probes: lists looked into for k = 10.
        probes_100: the same for k = 100; between and beyond it goes by a power of k.
        depth: candidates compared again for each neighbour asked for.
        recall: recall@10 measured, against the exact answer.
        wanted: recall@10 to be held.
    """

    probes: int = 1
    probes_100: int = 1
    depth: float = 2.0
    recall: float = 1.0
    wanted: float = 0.99


@dataclass
class _Scope:
    """What was worked out from an array of allowed ids; ``count`` of them are in the index."""

    allowed: weakref.ref[Ids]
    changes: int
    selector: Any
    count: int


class FaissIndex(Index):
    """Inner product of float16 or, above a size, of one byte a dimension.

    The latter finds candidates only; they are compared again by the vectors that ``source``
    gives, so cosines are those of float16 in any case.

    Args:
        dimension: of the vectors.
        plan: how it is made; None: all are scanned.
        training: vectors to part the lists by, (n, dimension) float32; not for a flat one.

    Attributes:
        source: gives the float16 vectors of ids.
        exact: look into all lists, whatever was tuned.
        trained_on: number of vectors in the collection when the lists were made.
    """

    def __init__(
        self, dimension: int, plan: Plan | None = None, training: Floats | None = None
    ) -> None:
        plan = plan or Plan(FLAT, 1, "a new index is searched exactly")
        self.kind = plan.kind
        self.reason = plan.reason
        self.dimension = dimension
        self.source: Callable[[Sequence[int]], Iterator[tuple[Ids, Floats]]] | None = None
        self.tuning = Tuning()
        self.exact = False
        self.trained_on = 0
        self._changing = threading.Lock()
        self._gate = Gate()
        self._there = np.zeros(1024, np.bool_)
        self._count = 0
        self._changes = 0
        self._scopes: list[_Scope] = []
        self._ivf = _empty(dimension, plan, training)
        self.trained = faiss.serialize_index(self._ivf).tobytes()

    def __len__(self) -> int:
        return self._count

    @property
    def lists(self) -> int:
        """Into which the vectors are parted."""
        return int(self._ivf.nlist)

    # --- changes -----------------------------------------------------------------------------

    def add(self, ids: Ids, vectors: Floats) -> None:
        """See ``Index.add``."""
        with self._changing:
            _, first = np.unique(ids, return_index=True)
            new = first[~self._has(ids[first])]
            for start in range(0, len(new), _CHUNK):
                rows = new[start : start + _CHUNK]
                self._append(
                    np.ascontiguousarray(ids[rows], np.int64),
                    np.ascontiguousarray(vectors[rows], np.float32),
                )

    def _append(self, ids: Ids, vectors: npt.NDArray[np.float32]) -> None:
        _, lists = self._ivf.quantizer.search(vectors, 1)
        lists = np.ascontiguousarray(lists[:, 0])
        pointers = (faiss.swig_ptr(array) for array in (vectors, ids, lists))
        most = int(ids.max()) + 1
        with self._gate.change():
            self._ivf.add_core(len(ids), *pointers)
            if most > len(self._there):
                grown = np.zeros(max(most, len(self._there) * 3 // 2), np.bool_)
                grown[: len(self._there)] = self._there
                self._there = grown
            self._there[ids] = True
            self._count += len(ids)
            self._changes += 1

    def remove(self, ids: Ids) -> None:
        """See ``Index.remove``."""
        with self._changing:
            gone = np.unique(ids[self._has(ids)])
            if not len(gone):
                return
            selector = _selector(gone, len(self._there))
            with self._gate.change():
                self._ivf.remove_ids(selector)
                self._there[gone] = False
                self._count -= len(gone)
                self._changes += 1

    def _has(self, ids: Ids) -> npt.NDArray[np.bool_]:
        inside = (ids >= 0) & (ids < len(self._there))
        return inside & self._there[np.where(inside, ids, 0)]

    def ids(self) -> Ids:
        """See ``Index.ids``."""
        with self._changing:
            return np.flatnonzero(self._there).astype(np.int64)

    # --- searches ----------------------------------------------------------------------------

    def search(self, query: Floats, k: int, allowed: Ids | None = None) -> Found:
        """See ``Index.search``."""
        return self._search(query, k, allowed, exact=self.exact)

    def search_exactly(self, query: Floats, k: int) -> Found:
        """As ``search`` with all lists looked into and more candidates compared again."""
        return self._search(query, k, None, exact=True)

    def candidates(self, query: Floats, k: int) -> Ids:
        """The k best of all lists, not compared again."""
        return self._candidates(query, k, 1, None, exact=True)[0]

    def _search(self, query: Floats, k: int, allowed: Ids | None, *, exact: bool) -> Found:
        again = self.kind == IVF_SQ8 and self.source is not None
        depth = math.ceil(k * self.tuning.depth) if again else k
        if again and exact:
            depth = max(4 * k, k + 50)
        found = self._candidates(query, depth, self._probes(k), allowed, exact=exact)
        return self._again(query, k, found[0]) if again else found

    def _candidates(
        self, query: Floats, k: int, probes: int, allowed: Ids | None, *, exact: bool
    ) -> Found:
        # Many search at once; threads that wait for one another spin and cost more than they help.
        faiss.omp_set_num_threads(1)
        row = np.ascontiguousarray(query[None], np.float32)
        with self._gate.search():
            there, selector, count = self._count, None, self._count
            if allowed is not None:
                scope = self._scope(allowed)
                selector, count = scope.selector, scope.count
            k = min(k, count)
            if k == 0:
                return _NOTHING
            if exact or self.kind == FLAT:
                probes = self.lists
            else:
                # What is allowed is as far apart as it is rare.
                probes = min(self.lists, math.ceil(probes * there / count))
            while True:
                parameters = faiss.SearchParametersIVF(
                    nprobe=probes, sel=selector if count < there else None
                )
                similarities, ids = self._ivf.search(row, k, params=parameters)
                if probes == self.lists or ids[0, -1] >= 0:
                    break
                probes = min(self.lists, 4 * probes)
        found = ids[0] >= 0
        return ids[0][found], similarities[0][found]

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

    def _probes(self, k: int) -> int:
        low, high = self.tuning.probes, max(self.tuning.probes, self.tuning.probes_100)
        power = math.log10(high / low)
        return min(self.lists, math.ceil(low * (max(k, 10) / 10) ** power))

    def _scope(self, allowed: Ids) -> _Scope:
        for scope in self._scopes:
            if scope.allowed() is allowed and scope.changes == self._changes:
                return scope
        count = int(np.count_nonzero(self._has(allowed)))
        selector = None if count == self._count else _selector(allowed, len(self._there))
        made = _Scope(weakref.ref(allowed), self._changes, selector, count)
        kept = [s for s in self._scopes if s.changes == self._changes and s.allowed() is not None]
        self._scopes = [made, *kept[:7]]
        return made

    # --- description and file ----------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """See ``Index.parameters``."""
        facts: dict[str, Any] = {"reason": self.reason}
        if self.kind != FLAT:
            facts |= {"lists": self.lists, "trained_on": self.trained_on, **asdict(self.tuning)}
        return facts

    def memory_bytes(self) -> int:
        """See ``Index.memory_bytes``."""
        vectors = self._count * (int(self._ivf.code_size) + 8)
        return vectors + 2 * self.lists * self.dimension + len(self.trained) + len(self._there)

    def entries(self, number: int) -> tuple[Ids, npt.NDArray[np.uint8]]:
        """Ids and codes of a list as they are at this moment, copied."""
        with self._gate.search():
            lists = self._ivf.invlists
            size = lists.list_size(number)
            if not size:
                return np.empty(0, np.int64), np.empty(0, np.uint8)
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * self._ivf.code_size)
            return ids.copy(), codes.copy()

    def save(self, path: Path, identity: str, model_id: str, version: int = -1) -> None:
        """See ``Index.save`` and ``faiss_file``."""
        faiss_file.save(self, path, identity, model_id, version)

    @classmethod
    def load(cls, path: Path, identity: str, model_id: str, dimension: int) -> tuple[FaissIndex, int]:
        """Read a saved index; also the version of the catalogue that it was level with.

        Raises:
            IndexDamagedError: missing, cut short, altered, of another catalogue or model; the
                message says which.
        """
        saved = faiss_file.load(path, identity, model_id, dimension)
        facts = dict(saved.manifest.parameters)
        index = cls(dimension)
        index.kind, index.reason = saved.manifest.kind, str(facts.pop("reason", ""))
        index._ivf, index.trained = saved.ivf, saved.trained
        index.trained_on = int(facts.pop("trained_on", 0))
        facts.pop("lists", None)
        index.tuning = Tuning(**facts)
        if len(saved.ids):
            index._there = np.zeros(int(saved.ids.max()) + 1024, np.bool_)
            index._there[saved.ids] = True
        index._count = len(saved.ids)
        return index, saved.manifest.version


def _empty(dimension: int, plan: Plan, training: Floats | None) -> Any:
    """An index without vectors, trained."""
    metric, codes = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer
    centres = np.zeros((1, dimension), np.float32)
    if plan.kind != FLAT:
        assert training is not None  # noqa: S101 - what is parted into lists needs examples
        clustering = faiss.Kmeans(
            dimension, plan.lists, niter=8, spherical=True, seed=1, max_points_per_centroid=1000
        )
        clustering.train(np.ascontiguousarray(training, np.float32))
        centres = clustering.centroids
    quantizer = faiss.IndexScalarQuantizer(dimension, codes.QT_fp16, metric)
    quantizer.add(centres)
    coding = codes.QT_8bit if plan.kind == IVF_SQ8 else codes.QT_fp16
    # Distances from the centre of the list spread less than the vectors: a byte tells more.
    ivf = faiss.IndexIVFScalarQuantizer(
        quantizer, dimension, plan.lists, coding, metric, plan.kind == IVF_SQ8
    )
    ivf.train(centres if training is None else np.ascontiguousarray(training, np.float32))
    # Owned by the index from now on, as in one read from a file.
    quantizer.this.disown()
    ivf.own_fields = True
    return ivf


def _selector(ids: Ids, size: int) -> Any:
    mask = np.zeros(size, np.bool_)
    mask[ids[(ids >= 0) & (ids < size)]] = True
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
