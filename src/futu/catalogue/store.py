"""The catalogue: everything that is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy import (
    Connection,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from futu.catalogue.builds import BuildQueries
from futu.catalogue.records import (
    DatasetRecord,
    ImageRecord,
    KnownFile,
    Outcome,
    ScannedFile,
)
from futu.catalogue.schema import (
    FAILED,
    MISSING,
    PENDING,
    READY,
    Dataset,
    Image,
    Vector,
)
from futu.catalogue.searching import SearchQueries
from futu.catalogue.session import chunks, images_query, now, vector_ids_of
from futu.errors import InvalidRequestError, UnknownDatasetError


class Catalogue(BuildQueries, SearchQueries):
    """The source of truth. See ``Session`` for how it is opened."""

    # --- datasets --------------------------------------------------------------------------

    def add_dataset(self, name: str, folder: str, description: str = "") -> DatasetRecord:
        """Register a folder; the same name and folder again is no change.

        Raises:
            InvalidRequestError: the name or the folder belongs to another dataset.
        """
        try:
            with self.write() as db:
                db.execute(
                    insert(Dataset).values(
                        name=name, folder=folder, description=description, created_at=now()
                    )
                )
        except IntegrityError:
            with self.read() as db:
                row = (
                    db.execute(
                        _datasets().where((Dataset.name == name) | (Dataset.folder == folder))
                    )
                    .mappings()
                    .first()
                )
            if row is None or (row["name"], row["folder"]) != (name, folder):
                raise InvalidRequestError(
                    f"The dataset name {name!r} or its folder is already in use.", name=name
                ) from None
        return self.dataset(name)

    def datasets(self) -> list[DatasetRecord]:
        """All datasets, by name."""
        with self.read() as db:
            rows = db.execute(_datasets().order_by(Dataset.name)).mappings()
            return [DatasetRecord(**row) for row in rows]

    def dataset(self, name_or_id: str | int) -> DatasetRecord:
        """A dataset by its name, or by its id as a number or in digits.

        Raises:
            UnknownDatasetError: no dataset has that name or id.
        """
        with self.read() as db:
            query = _datasets().where(Dataset.name == str(name_or_id))
            row = db.execute(query).mappings().first()
            if row is None and str(name_or_id).isdecimal() and len(str(name_or_id)) < 19:
                query = _datasets().where(Dataset.id == int(name_or_id))
                row = db.execute(query).mappings().first()
        if row is None:
            raise UnknownDatasetError(
                f"There is no dataset {name_or_id!r}. GET /api/datasets lists them.",
                dataset=str(name_or_id),
            )
        return DatasetRecord(**row)

    def image_counts(self) -> dict[int, int]:
        """Dataset id -> searchable images."""
        with self.read() as db:
            rows = db.execute(
                select(Image.dataset_id, func.count())
                .where(Image.state == READY)
                .group_by(Image.dataset_id)
            )
            return {row[0]: row[1] for row in rows}

    def first_images(self) -> dict[int, ImageRecord]:
        """Dataset id -> its first searchable image."""
        first = select(func.min(Image.id)).where(Image.state == READY).group_by(Image.dataset_id)
        with self.read() as db:
            rows = db.execute(images_query().where(Image.id.in_(first))).mappings()
            return {row["dataset_id"]: ImageRecord(**row) for row in rows}

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
            )
            .outerjoin(
                Vector,
                (Vector.content_hash == Image.content_hash) & (Vector.model_id == model_id),
            )
            .where(Image.dataset_id == dataset_id)
        )
        with self.read() as db:
            return {row[0]: KnownFile(*row[1:]) for row in db.execute(query)}

    def vector_ids(self, hashes: Sequence[bytes], model_id: str) -> dict[bytes, int]:
        """Content hash -> vector id, for those that have one."""
        with self.read() as db:
            return vector_ids_of(db, hashes, model_id)

    def write_files(self, dataset_id: int, files: Sequence[ScannedFile]) -> None:
        """Insert or update the rows of scanned files; a known content has a known size."""
        if not files:
            return
        statement = self.insert_or(Image)
        kept = ("dataset_id", "path", "added_at")
        given = {"dataset_id": dataset_id, "added_at": now()}
        ready = {f.content_hash for f in files if f.state == READY and f.content_hash is not None}
        with self.write() as db:
            sizes = _sizes(db, list(ready))
            rows = []
            for file in files:
                width, height = sizes.get(file.content_hash or b"", (0, 0))
                rows.append({**asdict(file), **given, "width": width, "height": height})
            changed = {name: statement.excluded[name] for name in rows[0] if name not in kept}
            db.execute(
                statement.on_conflict_do_update(
                    index_elements=["dataset_id", "path"], set_=changed
                ),
                rows,
            )

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

    def record(self, outcomes: Sequence[Outcome], model_id: str) -> dict[bytes, int]:
        """Write what became of contents; the same outcomes again change nothing.

        Returns:
            content hash -> vector id, for the successful ones.
        """
        good = [o for o in outcomes if o.vector is not None]
        bad = [o for o in outcomes if o.vector is None]
        with self.write() as db:
            if good:
                db.execute(
                    self.insert_or(Vector).on_conflict_do_nothing(
                        index_elements=["model_id", "content_hash"]
                    ),
                    [
                        {
                            "model_id": model_id,
                            "content_hash": o.content_hash,
                            "data": np.asarray(o.vector, "<f2").tobytes(),
                        }
                        for o in good
                    ],
                )
                db.execute(
                    update(Image)
                    .where(Image.content_hash == bindparam("h"), Image.state != MISSING)
                    .values(
                        state=READY,
                        error_code=None,
                        error=None,
                        width=bindparam("w"),
                        height=bindparam("v"),
                    ),
                    [{"h": o.content_hash, "w": o.width, "v": o.height} for o in good],
                )
            if bad:
                db.execute(
                    update(Image)
                    .where(Image.content_hash == bindparam("h"), Image.state == PENDING)
                    .values(state=bindparam("s"), error_code=bindparam("c"), error=bindparam("e")),
                    [
                        {
                            "h": o.content_hash,
                            "s": o.state,
                            "c": o.error_code,
                            "e": o.error,
                        }
                        for o in bad
                    ],
                )
            return vector_ids_of(db, [o.content_hash for o in good], model_id)


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


def _datasets() -> Any:
    return select(Dataset.id, Dataset.name, Dataset.folder, Dataset.description)
