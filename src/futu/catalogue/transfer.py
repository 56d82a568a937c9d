"""futu export and futu import: datasets with their vectors in one file, from any catalogue to any.

Vectors are stored by model and content hash, so that what is imported needs no model again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.orm import aliased

from futu.catalogue.archive import ArchiveReader, ArchiveWriter, Progress, Rows
from futu.catalogue.bulk import insert_rows
from futu.catalogue.listing import image_rows, models_of_vectors
from futu.catalogue.records import DatasetRecord
from futu.catalogue.schema import (
    FAILED,
    MISSING,
    PENDING,
    QUARANTINED,
    READY,
    Dataset,
    Image,
    ImageCount,
    Vector,
)
from futu.catalogue.session import chunks, now, vector_ids_of
from futu.catalogue.store import Catalogue
from futu.errors import ArchiveError

_PAGE = 5000
_PART_BYTES = 16 * 1024**2
_IMAGES, _VECTORS = cast(Table, Image.__table__), cast(Table, Vector.__table__)
_OURS = ("id", "dataset_id", "created_at")
_HEX = ("content_hash",)

FolderOf = Callable[[str, str], str]
"""Where the pictures of a dataset are here, given its name and where they were."""


@dataclass
class Counts:
    """What an archive has, or what came of it.

    Attributes:
        images, vectors: in the archive.
        new_images, new_vectors: of which the catalogue had none.
    """

    datasets: int = 0
    images: int = 0
    vectors: int = 0
    new_images: int = 0
    new_vectors: int = 0


def export_datasets(
    catalogue: Catalogue, datasets: Sequence[DatasetRecord], path: Path, progress: Progress
) -> Counts:
    """Write datasets with all their images and vectors, as they are at one instant.

    The catalogue may be written to meanwhile.

    Args:
        catalogue: from where.
        datasets: which.
        path: of the archive.
        progress: told of images.

    Raises:
        OSError: it cannot be written; nothing is left then.
    """
    ids = [dataset.id for dataset in datasets]
    counts = Counts(datasets=len(ids))
    with ArchiveWriter(path) as archive, catalogue.read() as db:
        models = models_of_vectors(db)
        total = db.scalar(select(func.count()).where(Image.dataset_id.in_(ids))) or 0
        columns = [c for c in Dataset.__table__.columns if c.name not in _OURS]
        found = db.execute(select(*columns).where(Dataset.id.in_(ids)).order_by(Dataset.name))
        archive.add_rows(
            "datasets", "datasets.jsonl", [_plain(dict(row)) for row in found.mappings()]
        )
        vectors = _VectorParts(archive)
        columns = [c for c in _IMAGES.columns if c.name not in (*_OURS, "path")]
        part = 0
        for dataset in datasets:
            for rows in image_rows(db, dataset.id, [*columns, _first_of_content(ids)], _PAGE):
                part += 1
                images: Rows = []
                for row in rows:
                    facts = {column.name: value for column, value in zip(columns, row)}
                    images.append(
                        {"dataset": dataset.name, "path": row[-1], **_plain(facts)},
                    )
                archive.add_rows("images", f"images/{part:06}.jsonl", images)
                contents = [f.content_hash for f in rows if f.content_hash is not None and f[-2]]
                for model_id in models:
                    for chunk in chunks(contents):
                        vectors.add(model_id, _vectors_of(db, model_id, chunk))
                counts.images += len(rows)
                progress(counts.images, total)
        vectors.flush()
        counts.vectors = vectors.rows
        archive.facts = {"datasets": [d.name for d in datasets], "images": counts.images}
        archive.facts |= {"vectors": counts.vectors, "models": vectors.dimensions}
    return counts


def _first_of_content(dataset_ids: Sequence[int]) -> Any:
    """Whether an image is the first with its content: the vectors go with that one."""
    earlier = aliased(Image)
    others = select(earlier.id).where(
        earlier.content_hash == Image.content_hash,
        earlier.id < Image.id,
        earlier.dataset_id.in_(dataset_ids),
    )
    return (~others.exists()).label("first")


def _vectors_of(db: Connection, model_id: str, contents: Sequence[bytes]) -> list[Any]:
    query = select(Vector.content_hash, Vector.data).where(
        Vector.model_id == model_id, Vector.content_hash.in_(contents)
    )
    return list(db.execute(query))


class _VectorParts:
    """Gathers vectors of each model until they are worth a part."""

    def __init__(self, archive: ArchiveWriter) -> None:
        self._archive = archive
        self._waiting: dict[str, list[tuple[bytes, bytes]]] = {}
        self._parts = 0
        self.rows = 0
        self.dimensions: dict[str, int] = {}

    def add(self, model_id: str, rows: list[Any]) -> None:
        if not rows:
            return
        waiting = self._waiting.setdefault(model_id, [])
        waiting += [(bytes(row[0]), bytes(row[1])) for row in rows]
        if len(waiting) * len(waiting[0][1]) >= _PART_BYTES:
            self._write(model_id)

    def flush(self) -> None:
        for model_id in list(self._waiting):
            self._write(model_id)

    def _write(self, model_id: str) -> None:
        rows = self._waiting.pop(model_id)
        self._parts += 1
        self.rows += len(rows)
        vectors = np.stack([np.frombuffer(data, "<f2") for _, data in rows])
        self.dimensions[model_id] = vectors.shape[1]
        name = f"vectors/{self._parts:06}"
        self._archive.add_vectors(name, model_id, [digest for digest, _ in rows], vectors)


def import_archive(
    catalogue: Catalogue,
    path: Path,
    folder_of: FolderOf,
    dimensions: Mapping[str, int],
    progress: Progress,
) -> Counts:
    """Take in what an archive has. What the catalogue has already stays; again changes nothing.

    Every part is checked before the first is taken, and each is taken in a transaction. An image
    is searchable at once if its vector is there; the next build looks whether its file is.

    Args:
        catalogue: where to.
        path: of the archive.
        folder_of: asked for datasets that the catalogue does not have.
        dimensions: model_id -> length of its vectors, for models that are known here.
        progress: told of parts, first of those checked, then of those taken.

    Raises:
        ArchiveError: the archive cannot be used; nothing was taken.
    """
    with ArchiveReader(path) as archive:
        _check_dimensions(catalogue, archive, dimensions)
        archive.check(progress)
        counts = Counts()
        datasets = _import_datasets(catalogue, archive, folder_of)
        counts.datasets = len(datasets)
        done = 0
        for model_id, hashes, vectors in archive.vectors():
            counts.vectors += len(hashes)
            with catalogue.write() as db:
                there = vector_ids_of(db, hashes, model_id)
                rows = [
                    (model_id, digest, vector.tobytes())
                    for digest, vector in dict(zip(hashes, vectors)).items()
                    if digest not in there
                ]
                insert_rows(
                    db,
                    _VECTORS,
                    ["model_id", "content_hash", "data"],
                    rows,
                    key=["model_id", "content_hash"],
                )
            counts.new_vectors += len(rows)
            done += 1
            progress(done, len(archive.parts))
        for images in archive.rows("images"):
            _import_images(catalogue, datasets, images, counts)
            done += 1
            progress(done, len(archive.parts))
    return counts


def _check_dimensions(
    catalogue: Catalogue, archive: ArchiveReader, known: Mapping[str, int]
) -> None:
    wanted = dict(known)
    with catalogue.read() as db:
        for model_id in models_of_vectors(db):
            one = select(Vector.data).where(Vector.model_id == model_id).limit(1)
            wanted[model_id] = len(db.scalar(one) or b"") // 2
    for part in archive.parts:
        if part["kind"] == "vectors":
            here = wanted.setdefault(part["model_id"], part["dimension"])
            if part["dimension"] != here:
                raise ArchiveError(
                    f"{part['file']} has vectors of {part['dimension']} numbers for the model "
                    f"{part['model_id']}, whose vectors have {here} here. Nothing was taken; "
                    "export again with the model that this Futu has."
                )


def _import_datasets(
    catalogue: Catalogue, archive: ArchiveReader, folder_of: FolderOf
) -> dict[str, int]:
    """Dataset name -> id here; those that are not here are made."""
    here = {dataset.name: dataset.id for dataset in catalogue.datasets()}
    listed = [facts for rows in archive.rows("datasets") for facts in rows]
    # All are asked for before the first is made.
    folders = {
        facts["name"]: folder_of(facts["name"], facts["folder"])
        for facts in listed
        if facts["name"] not in here
    }
    for facts in listed:
        if facts["name"] in folders:
            made = catalogue.add_dataset(
                facts["name"], folders[facts["name"]], tuple(facts["questions"])
            )
            here[made.name] = made.id
            if facts.get("reference"):
                catalogue.set_reference(made.id, reference=True)
    return {facts["name"]: here[facts["name"]] for facts in listed}


def _import_images(
    catalogue: Catalogue, datasets: Mapping[str, int], images: Rows, counts: Counts
) -> None:
    names = [c.name for c in _IMAGES.columns if c.name not in _OURS and c.name in images[0]]
    counts.images += len(images)
    facts = [_restored(row, datasets) for row in images]
    with catalogue.write() as db:
        contents = [f["content_hash"] for f in facts if f["state"] == READY]
        with_vector: set[bytes] = set()
        for model_id in models_of_vectors(db):
            with_vector |= vector_ids_of(db, contents, model_id).keys()
        for f in facts:
            if f["state"] == READY and f["content_hash"] not in with_vector:
                f["state"] = PENDING
        ids = set(datasets.values())
        before = _number_of_images(db, ids)
        insert_rows(
            db,
            _IMAGES,
            ["dataset_id", *names],
            [(f["dataset_id"], *(f[name] for name in names)) for f in facts],
            key=["dataset_id", "path"],
        )
        counts.new_images += _number_of_images(db, ids) - before


def _number_of_images(db: Connection, dataset_ids: set[int]) -> int:
    query = select(func.sum(ImageCount.images)).where(ImageCount.dataset_id.in_(dataset_ids))
    return int(db.scalar(query) or 0)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it."""
    return {
        name: value.hex()
        if isinstance(value, bytes)
        else value.isoformat()
        if isinstance(value, datetime)
        else value
        for name, value in row.items()
    }


def _restored(row: Mapping[str, Any], datasets: Mapping[str, int]) -> dict[str, Any]:
    """A row of an image from JSON.

    Raises:
        ArchiveError: it is none.
    """
    facts = dict(row)
    try:
        if facts["content_hash"] is not None:
            facts["content_hash"] = bytes.fromhex(facts["content_hash"])
        given = facts.get("added_at")
        facts["added_at"] = datetime.fromisoformat(given) if given else now()
        facts["dataset_id"] = datasets[facts["dataset"]]
        good = (
            not os.path.isabs(facts["path"])
            and ".." not in facts["path"].split("/")
            and "\0" not in facts["path"]
            and facts["state"] in (PENDING, READY, FAILED, MISSING, QUARANTINED)
            and all(isinstance(facts[name], int) for name in ("size", "mtime_ns"))
            and len(facts["content_hash"] or bytes(32)) == 32
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        good = False
    if not good:
        raise ArchiveError(
            f"The archive has an image that cannot be one ({row!r}). It was not made by futu "
            "export; the images before it were taken."
        )
    return facts
