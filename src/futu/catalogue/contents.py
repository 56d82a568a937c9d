"""Images by their content, wherever they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import func, select

from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import READY, Image
from futu.catalogue.session import Session, chunks, images_query


class ContentQueries(Session):
    """What files are the same, and where."""

    def images_of_contents(
        self, hashes: Sequence[bytes], dataset_ids: Collection[int]
    ) -> dict[bytes, list[ImageRecord]]:
        """Content hash -> the searchable images of these datasets that have it, oldest first."""
        wanted, found = set(dataset_ids), dict[bytes, list[ImageRecord]]()
        query = images_query(Image.content_hash).where(Image.state == READY).order_by(Image.id)
        with self.read() as db:
            for chunk in chunks(hashes):
                for row in db.execute(query.where(Image.content_hash.in_(chunk))):
                    if row.dataset_id in wanted:
                        found.setdefault(bytes(row.content_hash), []).append(ImageRecord(*row))
        return found

    def image_of_each_content(self, dataset_id: int) -> list[int]:
        """Ids of searchable images of a dataset, one for each content, ascending."""
        query = (
            select(func.min(Image.id))
            .where(Image.dataset_id == dataset_id, Image.state == READY)
            .group_by(Image.content_hash)
        )
        with self.read() as db:
            return sorted(db.scalars(query))

    def contents_also_in(self, dataset_id: int, others: Collection[int]) -> list[bytes]:
        """Content hashes of the searchable images of a dataset that are in other datasets too."""
        there = select(Image.content_hash).where(
            Image.dataset_id.in_(others), Image.state == READY, Image.content_hash.is_not(None)
        )
        query = (
            select(Image.content_hash)
            .distinct()
            .where(Image.dataset_id == dataset_id, Image.state == READY)
            .where(Image.content_hash.in_(there))
            .order_by(Image.content_hash)
        )
        with self.read() as db:
            return [bytes(row) for row in db.scalars(query) if row is not None]
