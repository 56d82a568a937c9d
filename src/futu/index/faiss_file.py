"""Index files: sections with check sums, and a manifest beside them that makes them valid.

There are two files by turns, PATH.0 and PATH.1. The manifest, PATH.json, names the one that counts
and is replaced last, so a crash at any moment leaves the former index or the new one. Searches and
changes go on while a file is written: the tables and the graph are copied at one moment, which
takes a fraction of a second; vectors, which are only ever appended, piece by piece.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from futu.errors import IndexDamagedError
from futu.index.base import Manifest
from futu.index.policy import FLAT
from futu.index.rows import Rows

if TYPE_CHECKING:
    from futu.index.faiss_index import FaissIndex

faiss: Any = _faiss
log = logging.getLogger(__name__)

_MAGIC = b"FUTUIDX1"
_SECTION = struct.Struct("<QII")
"""Bytes that follow, CRC-32 of them, and nothing."""
_WHOLE = struct.Struct("<I")
_PIECE_BYTES = 8 * 1024**2
_GRAPH = (("levels", np.int32), ("offsets", np.uint64), ("neighbors", np.int32))


@dataclass(frozen=True)
class Saved:
    """What a file held; ``trained`` is the index without vectors."""

    manifest: Manifest
    faiss: Any
    trained: bytes
    rows: Rows


def manifest_path(path: Path) -> Path:
    """Where the manifest of an index is."""
    return path.with_name(path.name + ".json")


def data_paths(path: Path) -> tuple[Path, Path]:
    """Where the data of an index is, by turns."""
    return path.with_name(path.name + ".0"), path.with_name(path.name + ".1")


def data_path(path: Path) -> Path:
    """The data that the manifest names.

    Raises:
        IndexDamagedError: there is no manifest, or it is damaged.
    """
    return path.with_name(_read(path)[1])


def file_bytes(path: Path) -> int:
    """Size of manifest and data on disk, bytes."""
    total = 0
    for file in (manifest_path(path), *data_paths(path)):
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def save(index: FaissIndex, path: Path, identity: str, model_id: str, version: int) -> None:
    """Write data and manifest; see the module.

    Raises:
        OSError: there is no room, for one; what was there stays and counts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    first, second = data_paths(path)
    target = first
    with contextlib.suppress(IndexDamagedError):
        target = second if data_path(path) == first else first
    try:
        count, checksum = _write(index, target)
        manifest = Manifest(
            identity, version, model_id, index.dimension, count, index.kind,
            index.parameters(), f"crc32:{checksum:08x}",
        )  # fmt: skip
        _write_manifest(path, manifest, target.name)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    (second if target == first else first).unlink(missing_ok=True)
    # What versions before the two files by turns have left.
    path.unlink(missing_ok=True)


def touch(path: Path, version: int) -> None:
    """State that what is saved is level with a later version of the catalogue.

    Raises:
        IndexDamagedError, OSError: it cannot be stated.
    """
    manifest, name = _read(path)
    facts = asdict(manifest) | {"version": version}
    _write_manifest(path, Manifest(**facts), name)


def _write(index: FaissIndex, target: Path) -> tuple[int, int]:
    """Write the data; returns the number of vectors and the check sum of all check sums."""
    with index.changing:
        ids, alive = index.rows.saved()
        graph = _graph(index.faiss) if index.kind != FLAT else []
    facts = np.array([len(ids), *graph[0]] if graph else [len(ids)], np.int64)
    parts = [index.trained, facts, ids, alive, *graph[1:]]
    whole = 0
    with target.open("wb") as file:
        file.write(_MAGIC)
        for part in itertools.chain(parts, _codes(index, len(ids))):
            data = memoryview(part).cast("B")
            head = _SECTION.pack(len(data), zlib.crc32(data), 0)
            whole = zlib.crc32(head, whole)
            file.write(head)
            file.write(data)
        file.write(_WHOLE.pack(whole))
        file.flush()
        os.fsync(file.fileno())
    return int(np.count_nonzero(alive)), whole


def _graph(graph: Any) -> list[Any]:
    """Entry point and top layer, and the graph's arrays, copied."""
    links = graph.hnsw
    arrays = [faiss.vector_to_array(getattr(links, name)) for name, _ in _GRAPH]
    return [(links.entry_point, links.max_level), *arrays]


def _codes(index: FaissIndex, rows: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The codes of the first rows, in pieces, each copied while nothing is changed."""
    size = int(index.store.code_size)
    step = max(1, _PIECE_BYTES // size)
    for start in range(0, rows, step):
        with index.gate.search():
            codes = index.store.codes
            view = faiss.rev_swig_ptr(codes.data(), codes.size())
            piece = view[start * size : min(rows, start + step) * size].copy()
        yield piece


def _write_manifest(path: Path, manifest: Manifest, data: str) -> None:
    target = manifest_path(path)
    temporary = target.with_name(target.name + ".new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"file": data, **asdict(manifest)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> tuple[Manifest, str]:
    """The manifest and the name of the data file.

    Raises:
        IndexDamagedError: it is missing or damaged.
    """
    file = manifest_path(path)
    try:
        facts = json.loads(file.read_bytes())
        name = facts.pop("file")
        if name not in {data.name for data in data_paths(path)}:
            raise ValueError(f"it names {name!r}")
        return Manifest(**facts), name
    except FileNotFoundError as error:
        raise IndexDamagedError(f"{file} is missing.") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise IndexDamagedError(f"The manifest {file} is damaged ({error}).") from error


def load(path: Path, identity: str, model_id: str, dimension: int) -> Saved:
    """Read a saved index; every byte is checked.

    Raises:
        IndexDamagedError: missing, cut short, altered, of another catalogue or model; the message
            says which.
    """
    manifest, name = _read(path)
    file = path.with_name(name)
    if (manifest.identity, manifest.model_id, manifest.dimension) != (
        identity,
        model_id,
        dimension,
    ):
        raise IndexDamagedError(f"{file} belongs to another catalogue or model.")
    try:
        with file.open("rb") as opened:
            return _Reader(opened, manifest).read()
    except FileNotFoundError as error:
        raise IndexDamagedError(f"{file} is missing.") from error
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        raise IndexDamagedError(f"{file} is damaged ({error}).") from error


class _Reader:
    """Reads sections one after the other.

    Raises:
        ValueError, struct.error, RuntimeError: the file is damaged.
    """

    def __init__(self, file: IO[bytes], manifest: Manifest) -> None:
        self._file = file
        self._manifest = manifest
        self._whole = 0
        self._left = os.fstat(file.fileno()).st_size - len(_MAGIC)
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it does not begin as one of this version does")

    def read(self) -> Saved:
        """All of it."""
        trained = self._bytes()
        index = faiss.deserialize_index(np.frombuffer(trained, np.uint8))
        facts = np.frombuffer(self._bytes(), np.int64)
        ids, alive = np.frombuffer(self._bytes(), np.int64), np.frombuffer(self._bytes(), np.bool_)
        count = int(facts[0])
        flat = not hasattr(index, "hnsw")
        fits = (flat, index.d) == (self._manifest.kind == FLAT, self._manifest.dimension)
        if not fits or len(ids) != count or len(alive) != count:
            raise ValueError("its parts do not fit together")
        store = index
        if not flat:
            store, links = faiss.downcast_index(index.storage), index.hnsw
            links.entry_point, links.max_level = map(int, facts[1:3])
            for name, kind in _GRAPH:
                array = np.frombuffer(self._bytes(), kind)
                faiss.copy_array_to_vector(array, getattr(links, name))
        store.codes.resize(count * store.code_size)
        if count:
            self._into(faiss.rev_swig_ptr(store.codes.data(), store.codes.size()))
        store.ntotal = index.ntotal = count
        whole = _WHOLE.unpack(self._file.read(_WHOLE.size))[0]
        if self._file.read(1) or f"crc32:{whole:08x}" != self._manifest.checksum:
            raise ValueError("it is not the one its manifest describes")
        if whole != self._whole:
            raise ValueError("a check sum does not match")
        return Saved(self._manifest, index, trained, Rows(ids, alive))

    def _head(self) -> tuple[int, int]:
        head = self._file.read(_SECTION.size)
        length, checksum, _ = _SECTION.unpack(head)
        self._whole = zlib.crc32(head, self._whole)
        self._left -= len(head) + length
        if self._left < 0:
            raise ValueError("it is cut short")
        return length, checksum

    def _bytes(self) -> bytes:
        length, checksum = self._head()
        data = self._file.read(length)
        if len(data) != length or zlib.crc32(data) != checksum:
            raise ValueError("a check sum does not match")
        return data

    def _into(self, target: npt.NDArray[np.uint8]) -> None:
        """Fill an array with the sections that are left."""
        at = 0
        while at < len(target):
            length, checksum = self._head()
            piece = target[at : at + length]
            if len(piece) != length or not length:
                raise ValueError("its parts do not fit together")
            view = memoryview(piece.data)
            if self._file.readinto(view) != length or zlib.crc32(view) != checksum:  # type: ignore[attr-defined]
                raise ValueError("a check sum does not match")
            at += length
