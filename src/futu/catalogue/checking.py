"""What is asked to see whether disk, catalogue and index agree."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, select, true, update

from futu.catalogue.records import StoredVector
from futu.catalogue.schema import MISSING, READY, Image, Vector
from futu.catalogue.session import Session, chunks


class CheckQueries(Session):
    """Rows as a check needs them."""

    def count_below(self, dataset_id: int, folder: str, most: int) -> int:
        """How many files of a dataset are known to be below one of its folders; at most ``most``.

        Args:
            dataset_id: whose.
            folder: relative to the dataset's; empty: all files.
            most: no more are counted.
        """
        some = (
            select(Image.id)
            .where(Image.dataset_id == dataset_id, Image.state != MISSING, _below(folder))
            .limit(most)
        )
        with self.read() as db:
            return int(db.scalar(select(func.count()).select_from(some.subquery())) or 0)

    def stored_vectors(self, dataset_id: int, model_id: str) -> list[StoredVector]:
        """The searchable images of a dataset, each with the id and length of its vector."""
        vector = (Vector.content_hash == Image.content_hash) & (Vector.model_id == model_id)
        query = (
            select(Image.path, Vector.id, func.length(Vector.data))
            .outerjoin(Vector, vector)
            .where(Image.dataset_id == dataset_id, Image.state == READY)
        )
        with self.read() as db:
            return [StoredVector(*row) for row in db.execute(query)]

    def doubt_files(self, dataset_id: int, paths: Sequence[str]) -> None:
        """Let the next scan hash these files again, though size and time are as they were."""
        with self.write() as db:
            for chunk in chunks(paths):
                this = (Image.dataset_id == dataset_id) & Image.path.in_(chunk)
                db.execute(update(Image).where(this).values(scanned_at_ns=Image.mtime_ns))

    def drop_vectors(self, vector_ids: Sequence[int]) -> None:
        """Delete vectors that are of no use; the next build of their images makes them again."""
        with self.write() as db:
            for chunk in chunks(vector_ids):
                db.execute(delete(Vector).where(Vector.id.in_(chunk)))


def _below(folder: str) -> ColumnElement[bool]:
    """Whether a path is below a folder; by an index, since paths are compared as bytes."""
    if not folder:
        return true()
    first = os.fsencode(folder) + b"/"
    last = first[:-1] + b"0"  # the byte after the slash
    return (Image.path >= os.fsdecode(first)) & (Image.path < os.fsdecode(last))
