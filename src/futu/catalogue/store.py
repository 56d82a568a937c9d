"""The catalogue: everything that is asked of it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    Connection,
    Table,
    func,
    select,
    update,
)

from futu.catalogue.builds import BuildQueries
from futu.catalogue.bulk import insert_rows, update_rows
from futu.catalogue.calibrations import CalibrationQueries
from futu.catalogue.checking import CheckQueries
from futu.catalogue.contents import ContentQueries
from futu.catalogue.copies import CopyQueries
from futu.catalogue.datasets import DatasetQueries
from futu.catalogue.duplicates import DuplicateQueries
from futu.catalogue.leading import LeadQueries
from futu.catalogue.listing import ListQueries
from futu.catalogue.models import is_served_by, searchable_by
from futu.catalogue.records import (
    KnownFile,
    Outcome,
    ScannedFile,
)
from futu.catalogue.schema import (
    FAILED,
    MISSING,
    PENDING,
    READY,
    Image,
    Vector,
)
from futu.catalogue.searching import SearchQueries
from futu.catalogue.session import chunks, now, vector_ids_of
from futu.catalogue.trashing import TrashQueries
from futu.catalogue.upkeep import ModelUpkeep
from futu.catalogue.verdicts import VerdictQueries

_IMAGES = cast(Table, Image.__table__)
_VECTORS = cast(Table, Vector.__table__)
_SCANNED = [field.name for field in fields(ScannedFile)]
_scanned = operator.attrgetter(*_SCANNED)


class Catalogue(
    DatasetQueries,
    BuildQueries,
    SearchQueries,
    ListQueries,
    ModelUpkeep,
    LeadQueries,
    DuplicateQueries,
    VerdictQueries,
    CopyQueries,
    CalibrationQueries,
    ContentQueries,
    TrashQueries,
    CheckQueries,
):
    """The source of truth. See ``Session`` for how it is opened."""

    # --- scanning --------------------------------------------------------------------------

    def known_files(self, dataset_id: int, model_id: str) -> dict[str, KnownFile]:
        """Path -> what is known of it, for all files ever seen in a dataset."""
        query = (
            select(
                Image.path,
                Image.id,
                Image.size,
                Image.mtime_ns,
                Image.content_hash,
                Image.state,
                Image.error_code,
                Vector.id,
                Image.scanned_at_ns,
            )
            .outerjoin(
                Vector,
                (Vector.content_hash == Image.content_hash) & (Vector.model_id == model_id),
            )
            .where(Image.dataset_id == dataset_id)
        )
        with self.read() as db:
            return {row[0]: KnownFile(*row[1:]) for row in db.execute(query)}

    def confirm_files(self, image_ids: Sequence[int], scanned_at_ns: int) -> None:
        """These files still had their content at this time."""
        with self.write(searchable=False) as db:
            for chunk in chunks(image_ids):
                this = Image.id.in_(chunk)
                db.execute(update(Image).where(this).values(scanned_at_ns=scanned_at_ns))

    def vector_ids(self, hashes: Sequence[bytes], model_id: str) -> dict[bytes, int]:
        """Content hash -> vector id, for those that have one."""
        with self.read() as db:
            return vector_ids_of(db, hashes, model_id)

    def write_files(
        self, dataset_id: int, files: Sequence[ScannedFile], model_id: str | None = None
    ) -> bool:
        """Insert or update the rows of scanned files; a known content has a known size.

        Args:
            dataset_id: whose.
            files: the rows.
            model_id: the model by whose vectors they were judged ready.

        Returns:
            False, and nothing is written, when another model serves the dataset by now.
        """
        if not files:
            return True
        added_at = now()
        ready = {f.content_hash for f in files if f.state == READY and f.content_hash is not None}
        with self.write() as db:
            if model_id is not None and not is_served_by(db, dataset_id, model_id):
                return False
            sizes = _sizes(db, list(ready))
            rows = [
                (
                    *_scanned(file),
                    *sizes.get(file.content_hash or b"", (0, 0)),
                    dataset_id,
                    added_at,
                )
                for file in {file.path: file for file in files}.values()
            ]
            insert_rows(
                db,
                _IMAGES,
                [*_SCANNED, "width", "height", "dataset_id", "added_at"],
                rows,
                key=["dataset_id", "path"],
                changed=[*(name for name in _SCANNED if name != "path"), "width", "height"],
            )
        return True

    def fail_file(
        self, dataset_id: int, path: str, content_hash: bytes, code: str, error: str
    ) -> None:
        """A file was found to have a content no longer.

        Its row lets go of the hash: the vector may come, or have come, from another file.
        """
        this = (Image.dataset_id == dataset_id) & (Image.path == path)
        this &= Image.content_hash == content_hash
        failed = {"state": FAILED, "content_hash": None, "error_code": code, "error": error}
        with self.write() as db:
            db.execute(update(Image).where(this).values(**failed))

    def mark_missing(self, image_ids: Sequence[int]) -> None:
        """These files are gone. Their rows and vectors stay, in case they come back."""
        with self.write() as db:
            for chunk in chunks(image_ids):
                db.execute(
                    update(Image)
                    .where(Image.id.in_(chunk))
                    .values(
                        state=MISSING, error_code="missing_file", error="The file is not there."
                    )
                )

    def record(self, outcomes: Sequence[Outcome], model_id: str) -> dict[str, dict[bytes, int]]:
        """Write what became of contents; the same outcomes again change nothing.

        Args:
            outcomes: each content once.
            model_id: the model whose vector makes images searchable in datasets that have no
                model of their own yet.

        Returns:
            model_id -> content hash -> vector id, for the vectors given.
        """
        vectors = [
            (model, o.content_hash, _stored(vector))
            for o in outcomes
            for model, vector in o.vectors.items()
        ]
        by_models: dict[frozenset[str], list[tuple[int, int, bytes]]] = {}
        for o in outcomes:
            if o.vectors:
                good = by_models.setdefault(frozenset(o.vectors), [])
                good.append((o.width, o.height, o.content_hash))
        bad = [
            (o.state, o.error_code, o.error, o.content_hash)
            for o in outcomes
            if o.error_code is not None
        ]
        with self.write() as db:
            insert_rows(
                db,
                _VECTORS,
                ["model_id", "content_hash", "data"],
                vectors,
                key=["model_id", "content_hash"],
            )
            for models, good in by_models.items():
                _let_be_searched(db, models, model_id, good)
            update_rows(
                db,
                _IMAGES,
                "content_hash",
                ["state", "error_code", "error"],
                bad,
                where=f"images.state = '{PENDING}'",
            )
            return {
                model: vector_ids_of(
                    db, [o.content_hash for o in outcomes if model in o.vectors], model
                )
                for model in {model for o in outcomes for model in o.vectors}
            }


def _let_be_searched(
    db: Connection,
    models: Collection[str],
    default_id: str,
    contents: Sequence[tuple[int, int, bytes]],
) -> None:
    """Contents have vectors of these models now.

    Their images are searchable in the datasets that one of the models serves; others get their
    width and height only.
    """
    served, all_are = searchable_by(db, models, default_id)
    there = f"images.state <> '{MISSING}'"
    ids = ", ".join(map(str, sorted(served)))
    write = functools.partial(
        update_rows, db, _IMAGES, "content_hash", ["width", "height"], contents
    )
    if all_are or served:
        write(
            constants=f"state = '{READY}', error_code = NULL, error = NULL",
            where=there if all_are else f"{there} AND images.dataset_id IN ({ids})",
        )
    if not all_are:
        write(where=f"{there} AND images.dataset_id NOT IN ({ids})" if served else there)


def _stored(vector: npt.NDArray[np.float32]) -> bytes:
    return np.asarray(vector, "<f2").tobytes()


def _sizes(db: Connection, contents: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Content hash -> width and height in pixels, for those of which a file has been decoded."""
    found: dict[bytes, tuple[int, int]] = {}
    for chunk in chunks(contents):
        query = (
            select(Image.content_hash, func.max(Image.width), func.max(Image.height))
            .where(Image.content_hash.in_(chunk), Image.width > 0)
            .group_by(Image.content_hash)
        )
        found.update({bytes(row[0] or b""): (row[1], row[2]) for row in db.execute(query)})
    return found
