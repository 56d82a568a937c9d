"""The catalogue: everything that is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    Connection,
    bindparam,
    case,
    func,
    select,
    update,
)

from futu.catalogue.builds import BuildQueries
from futu.catalogue.datasets import DatasetQueries
from futu.catalogue.models import is_served_by, made_searchable
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
from futu.catalogue.upkeep import ModelUpkeep


class Catalogue(DatasetQueries, BuildQueries, SearchQueries, ModelUpkeep):
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
        statement = self.insert_or(Image)
        kept = ("dataset_id", "path", "added_at")
        given = {"dataset_id": dataset_id, "added_at": now()}
        ready = {f.content_hash for f in files if f.state == READY and f.content_hash is not None}
        with self.write() as db:
            if model_id is not None and not is_served_by(db, dataset_id, model_id):
                return False
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
        rows = [
            {"model_id": model, "content_hash": o.content_hash, "data": _stored(vector)}
            for o in outcomes
            for model, vector in o.vectors.items()
        ]
        by_models: dict[frozenset[str], list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.vectors:
                by_models.setdefault(frozenset(outcome.vectors), []).append(outcome)
        bad = [o for o in outcomes if o.error_code is not None]
        with self.write() as db:
            if rows:
                db.execute(
                    self.insert_or(Vector).on_conflict_do_nothing(
                        index_elements=["model_id", "content_hash"]
                    ),
                    rows,
                )
            for models, good in by_models.items():
                now_ready = made_searchable(models, model_id)
                db.execute(
                    update(Image)
                    .where(Image.content_hash == bindparam("h"), Image.state != MISSING)
                    .values(
                        state=case((now_ready, READY), else_=Image.state),
                        error_code=case((now_ready, None), else_=Image.error_code),
                        error=case((now_ready, None), else_=Image.error),
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
            return {
                model: vector_ids_of(
                    db, [o.content_hash for o in outcomes if model in o.vectors], model
                )
                for model in {model for o in outcomes for model in o.vectors}
            }


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
