"""FAISS, exact: a flat index of float16 vectors under inner product."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from futu.errors import IndexDamagedError
from futu.index.base import Floats, Ids, Index, Manifest

# The package's own type hints lack much of what its SWIG layer has.
faiss: Any = _faiss
_KIND = "flat-float16"


def manifest_path(path: Path) -> Path:
    """Where the manifest of an index file is."""
    return path.with_suffix(path.suffix + ".json")


class FaissIndex(Index):
    """Exact search; 2 bytes a dimension. Vectors are stored as the catalogue has them, float16."""

    kind = _KIND

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._lock = threading.Lock()
        flat = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._index: Any = faiss.IndexIDMap2(flat)
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, ids: Ids, vectors: Floats) -> None:
        """See ``Index.add``."""
        with self._lock:
            seen: set[int] = set()
            rows = []
            for row, key in enumerate(ids.tolist()):
                if key not in self._known and key not in seen:
                    seen.add(key)
                    rows.append(row)
            if rows:
                self._index.add_with_ids(
                    np.ascontiguousarray(vectors[rows], np.float32),
                    np.ascontiguousarray(ids[rows], np.int64),
                )
                self._known |= seen

    def remove(self, ids: Ids) -> None:
        """See ``Index.remove``."""
        with self._lock:
            there = [key for key in ids.tolist() if key in self._known]
            if there:
                self._index.remove_ids(np.array(there, np.int64))
                self._known.difference_update(there)

    def search(
        self, query: Floats, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, npt.NDArray[np.float32]]:
        """See ``Index.search``."""
        parameters = None
        if allowed is not None:
            if len(allowed) == 0:
                return np.empty(0, np.int64), np.empty(0, np.float32)
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(allowed))
        with self._lock:
            k = min(k, len(self._known))
            if k == 0:
                return np.empty(0, np.int64), np.empty(0, np.float32)
            row = np.ascontiguousarray(query[None], np.float32)
            similarities, ids = self._index.search(row, k, params=parameters)
        found = ids[0] >= 0
        return ids[0][found], similarities[0][found]

    def ids(self) -> Ids:
        """See ``Index.ids``."""
        with self._lock:
            return np.sort(np.fromiter(self._known, np.int64, len(self._known)))

    def save(self, path: Path, identity: str, model_id: str) -> None:
        """See ``Index.save``. The manifest is written last and holds the file's SHA-256."""
        with self._lock:
            data = faiss.serialize_index(self._index).tobytes()
            count = len(self._known)
        manifest = Manifest(
            identity, model_id, self.dimension, count, _KIND, hashlib.sha256(data).hexdigest()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
        _replace(manifest_path(path), json.dumps(asdict(manifest), indent=1).encode())

    @classmethod
    def load(cls, path: Path, identity: str, model_id: str, dimension: int) -> FaissIndex:
        """Read a saved index.

        Raises:
            IndexDamagedError: missing, cut short, altered, of another catalogue or model; the
                message says which.
        """
        try:
            manifest = Manifest(**json.loads(manifest_path(path).read_bytes()))
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise IndexDamagedError(f"{path} or its manifest is missing.") from error
        except (OSError, ValueError, TypeError) as error:
            raise IndexDamagedError(f"The manifest of {path} is damaged ({error}).") from error
        if (manifest.identity, manifest.model_id, manifest.dimension, manifest.kind) != (
            identity,
            model_id,
            dimension,
            _KIND,
        ):
            raise IndexDamagedError(f"{path} belongs to another catalogue or model.")
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise IndexDamagedError(f"{path} does not match the checksum in its manifest.")
        try:
            loaded = faiss.deserialize_index(np.frombuffer(data, np.uint8))
            ids = faiss.vector_to_array(loaded.id_map)
        except (RuntimeError, AttributeError) as error:
            raise IndexDamagedError(f"FAISS cannot read {path} ({error}).") from error
        index = cls(dimension)
        index._index = loaded
        index._known = set(ids.tolist())
        return index


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
