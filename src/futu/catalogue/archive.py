"""The file that futu export writes: a ZIP of JSON Lines and npy, which other programs can read.

    manifest.json           version, what there is, rows and SHA-256 of every other member
    datasets.jsonl          a dataset in each line
    images/000001.jsonl     an image in each line: its dataset, its path in the dataset's folder,
                            size, time, state, content hash (hexadecimal)
    vectors/000001.npy      feature vectors of one model, float16, (n, dimension)
    vectors/000001.jsonl    the content hash of each of them, in order

Names of files that are not UTF-8 have their odd bytes as U+DC80 to U+DCFF, which is Python's
surrogateescape.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from futu import __version__
from futu.errors import ArchiveError

FORMAT, VERSION = "futu-export", 1
_MOST_PART_BYTES = 256 * 1024**2
_MOST_MANIFEST_BYTES = 64 * 1024**2

Rows = list[dict[str, Any]]
Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""


class ArchiveWriter:
    """Writes an archive part by part; it is there, whole, when the block ends without an error.

    Args:
        path: where to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = Path(f"{path}.part")
        self._parts: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> ArchiveWriter:
        self._zip = zipfile.ZipFile(self._unfinished, "w", zipfile.ZIP_STORED, allowZip64=True)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                manifest = {
                    "format": FORMAT,
                    "version": VERSION,
                    "futu": __version__,
                    "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    **self.facts,
                    "parts": self._parts,
                }
                self._zip.writestr("manifest.json", json.dumps(manifest, indent=1))
            self._zip.close()
            if kind is None:
                flush_file(self._unfinished)
                os.replace(self._unfinished, self._path)
        finally:
            self._unfinished.unlink(missing_ok=True)

    def add_rows(self, kind: str, name: str, rows: Rows) -> None:
        """Add a part of JSON Lines."""
        self._add({"kind": kind, "rows": len(rows)}, {"file": (name, _lines(rows))})

    def add_vectors(
        self, name: str, model_id: str, hashes: list[bytes], vectors: npt.NDArray[np.float16]
    ) -> None:
        """Add a part of vectors of one model, (n, dimension), and the hashes of their contents."""
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        facts = {
            "kind": "vectors",
            "rows": len(hashes),
            "model_id": model_id,
            "dimension": int(vectors.shape[1]),
        }
        contents = _lines([{"content_hash": digest.hex()} for digest in hashes])
        members = {
            "file": (f"{name}.npy", buffer.getvalue()),
            "contents": (f"{name}.jsonl", contents),
        }
        self._add(facts, members)

    def _add(self, facts: dict[str, Any], members: Mapping[str, tuple[str, bytes]]) -> None:
        for role, (name, data) in members.items():
            # Vectors look like noise; to compress them takes long and gains nothing.
            how = zipfile.ZIP_STORED if name.endswith(".npy") else zipfile.ZIP_DEFLATED
            self._zip.writestr(name, data, how, compresslevel=1)
            facts[role] = name
            facts[f"{role}_sha256"] = hashlib.sha256(data).hexdigest()
        self._parts.append(facts)


class ArchiveReader:
    """Reads an archive; a part that is not what the manifest says is refused.

    Args:
        path: of the archive.

    Raises:
        ArchiveError: it is none, or of a format that this version does not know.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = self._open()
        try:
            self.manifest = self._manifest()
        except BaseException:
            self._zip.close()
            raise
        self.parts: list[dict[str, Any]] = self.manifest["parts"]

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def check(self, progress: Progress) -> None:
        """Read every part once.

        Raises:
            ArchiveError: one is damaged; the message names it.
        """
        for done, part in enumerate(self.parts):
            progress(done, len(self.parts))
            for role in ("file", "contents"):
                if role in part:
                    self._read(part, role)
        progress(len(self.parts), len(self.parts))

    def rows(self, kind: str) -> Iterator[Rows]:
        """The parts of JSON Lines of a kind."""
        for part in self.parts:
            if part["kind"] == kind:
                with self._sound(part["file"]):
                    rows = [json.loads(line) for line in self._read(part, "file").splitlines()]
                    if len(rows) != part["rows"] or not all(isinstance(r, dict) for r in rows):
                        raise ValueError("other rows than the manifest says")
                yield rows

    def vectors(self) -> Iterator[tuple[str, list[bytes], npt.NDArray[np.float16]]]:
        """The parts with vectors: model_id, hashes of contents, vectors (n, dimension)."""
        for part in self.parts:
            if part["kind"] != "vectors":
                continue
            with self._sound(part["file"]):
                data = np.load(io.BytesIO(self._read(part, "file")), allow_pickle=False)
                if data.dtype != np.dtype("<f2") or data.shape != (part["rows"], part["dimension"]):
                    raise ValueError(
                        f"it holds {data.dtype} {data.shape}, and the manifest says float16 "
                        f"({part['rows']}, {part['dimension']})"
                    )
                if not np.isfinite(data).all():
                    raise ValueError("it holds what is no number")
            with self._sound(part["contents"]):
                lines = self._read(part, "contents").splitlines()
                hashes = [bytes.fromhex(json.loads(line)["content_hash"]) for line in lines]
                if len(hashes) != len(data) or any(len(digest) != 32 for digest in hashes):
                    raise ValueError("other hashes than the manifest says")
            yield str(part["model_id"]), hashes, data

    def _open(self) -> zipfile.ZipFile:
        if not self._path.is_file():
            raise ArchiveError(f"There is no file {self._path}.")
        try:
            return zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ArchiveError(
                f"{self._path} is no export of Futu, or is cut off ({error}). Copy it again, or "
                "export again."
            ) from error

    def _manifest(self) -> dict[str, Any]:
        try:
            with self._zip.open("manifest.json") as file:
                manifest = json.loads(file.read(_MOST_MANIFEST_BYTES))
            kind, version = manifest["format"], manifest["version"]
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile, OSError) as error:
            raise ArchiveError(
                f"{self._path} is no export of Futu: its manifest.json cannot be read ({error})."
            ) from error
        if kind != FORMAT or version != VERSION:
            raise ArchiveError(
                f"{self._path} has the format {kind} version {version}; this Futu reads {FORMAT} "
                f"version {VERSION}. Use the version of Futu that made it, or a newer one."
            )
        with self._sound("manifest.json"):
            for part in manifest["parts"]:
                part["kind"], part["rows"], part["file"], part["file_sha256"]
                if part["kind"] == "vectors":
                    part["model_id"], part["dimension"], part["contents"], part["contents_sha256"]
        return dict(manifest)

    def _read(self, part: Mapping[str, Any], role: str) -> bytes:
        name = part[role]
        with self._sound(name), self._zip.open(name) as file:
            data = file.read(_MOST_PART_BYTES + 1)
            if len(data) > _MOST_PART_BYTES:
                raise ValueError(f"more than {_MOST_PART_BYTES} bytes")
            if hashlib.sha256(data).hexdigest() != part[f"{role}_sha256"]:
                raise ValueError("its SHA-256 is not that of the manifest")
            return data

    @contextlib.contextmanager
    def _sound(self, name: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, OSError) as error:
            raise ArchiveError(
                f"{name} in {self._path} is damaged ({error}). Nothing of it was taken; copy the "
                "file again, or export again."
            ) from error
        except zipfile.zlib.error as error:  # type: ignore[attr-defined]
            raise ArchiveError(f"{name} in {self._path} is damaged ({error}).") from error


def flush_file(path: Path) -> None:
    """Have a file on the disk before anything else is done."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
