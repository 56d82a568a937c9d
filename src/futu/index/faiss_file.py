"""Index files: sections with check sums, and a manifest beside them that makes them valid.

There are two files by turns, PATH.0 and PATH.1. The manifest, PATH.json, names the one that counts
and is replaced last, so a crash at any moment leaves the former index or the new one. Lists are
copied and written one by one while searches and changes go on: what is added meanwhile may be in the
file or not. That is no matter, since whoever loads it compares its ids with the catalogue's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from futu.errors import IndexDamagedError
from futu.index.base import Ids, Manifest

if TYPE_CHECKING:
    from futu.index.faiss_index import FaissIndex

faiss: Any = _faiss
log = logging.getLogger(__name__)

_MAGIC = b"FUTUIDX1"
_SECTION = struct.Struct("<QQI")
"""Number of ids (0 for the trained part), bytes that follow, CRC-32 of them."""
_WHOLE = struct.Struct("<I")


@dataclass(frozen=True)
class Saved:
    """What a file held; ``trained`` is the index without vectors, ``ids`` are in no order."""

    manifest: Manifest
    ivf: Any
    trained: bytes
    ids: Ids


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
    whole, count = 0, 0
    with target.open("wb") as file:
        file.write(_MAGIC)
        for number in range(-1, index.lists):
            if number < 0:
                size, parts = 0, [index.trained]
            else:
                ids, codes = index.entries(number)
                size, parts = len(ids), [ids.tobytes(), codes.tobytes()]
            checksum = 0
            for part in parts:
                checksum = zlib.crc32(part, checksum)
            head = _SECTION.pack(size, sum(map(len, parts)), checksum)
            whole = zlib.crc32(head, whole)
            count += size
            file.writelines((head, *parts))
        file.write(_WHOLE.pack(whole))
        file.flush()
        os.fsync(file.fileno())
    return count, whole


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
            data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise IndexDamagedError(f"{file} is missing.") from error
    except (OSError, ValueError) as error:
        raise IndexDamagedError(f"{file} cannot be read ({error}).") from error
    # Not closed here: views of it live as long as the error that may come has a traceback.
    try:
        return _sections(memoryview(data), manifest, file)
    except (struct.error, ValueError, RuntimeError, AttributeError) as error:
        raise IndexDamagedError(f"{file} is damaged ({error}).") from error


def _sections(view: memoryview, manifest: Manifest, file: Path) -> Saved:
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise ValueError("it does not begin as one of this version does")
    at, whole, found = len(_MAGIC), 0, []
    trained, ivf = b"", None
    number = -1
    while ivf is None or number < ivf.nlist:
        head = view[at : at + _SECTION.size]
        size, length, checksum = _SECTION.unpack(head)
        whole = zlib.crc32(head, whole)
        at += _SECTION.size
        body = view[at : at + length]
        if len(body) < length:
            raise ValueError("it is cut short")
        if zlib.crc32(body) != checksum:
            raise ValueError("a check sum does not match")
        at += length
        if ivf is None:
            trained = bytes(body)
            ivf = faiss.deserialize_index(np.frombuffer(trained, np.uint8))
        elif size:
            entries = np.frombuffer(body, np.uint8)
            # Copied, since the place in the file need not suit the type.
            ids = entries[: 8 * size].copy().view(np.int64)
            codes = entries[8 * size :]
            ivf.invlists.add_entries(number, size, faiss.swig_ptr(ids), faiss.swig_ptr(codes))
            found.append(ids)
            del entries, codes
        del head, body
        number += 1
    if f"crc32:{whole:08x}" != manifest.checksum or _WHOLE.unpack(view[at:]) != (whole,):
        raise ValueError("it is not the one its manifest describes")
    ids = np.concatenate(found) if found else np.empty(0, np.int64)
    ivf.ntotal = len(ids)
    return Saved(manifest, ivf, trained, ids)
