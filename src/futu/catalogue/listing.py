"""Going through all images of a dataset, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import Image, Vector
from futu.catalogue.session import Session, images_query


class ListQueries(Session):
    """Images by path, in pages."""

    def list_images(
        self, dataset_id: int, after: str | None = None, limit: int = 100
    ) -> list[ImageRecord]:
        """Images of a dataset in any state, in the order of the bytes of their paths.

        Each page is found by an index, wherever it is.

        Args:
            dataset_id: whose.
            after: the path that the last page ended with; None: from the first.
            limit: how many at most.
        """
        query = images_query(Image.content_hash).where(Image.dataset_id == dataset_id)
        if after is not None:
            query = query.where(Image.path > after)
        with self.read() as db:
            rows = db.execute(query.order_by(Image.path).limit(limit)).mappings()
            return [ImageRecord(**row) for row in rows]

    def all_images(self, dataset_id: int, page: int = 1000) -> Iterator[ImageRecord]:
        """The same, one by one; only a page of them is in memory."""
        after = None
        while found := self.list_images(dataset_id, after, page):
            yield from found
            after = found[-1].path


def image_rows(
    db: Connection, dataset_id: int, columns: Sequence[Any], page: int
) -> Iterator[list[Any]]:
    """Pages of the images of a dataset by path; the last column of each row is its path."""
    query = (
        select(*columns, Image.path)
        .where(Image.dataset_id == dataset_id)
        .order_by(Image.path)
        .limit(page)
    )
    rows: list[Any] = list(db.execute(query))
    while rows:
        yield rows
        rows = list(db.execute(query.where(Image.path > rows[-1][-1])))


def models_of_vectors(db: Connection) -> list[str]:
    """The model_ids that there are vectors of, each found by a step in the index."""
    found: list[str] = []
    query = select(func.min(Vector.model_id))
    following = db.scalar(query)
    while following is not None:
        found.append(following)
        following = db.scalar(query.where(Vector.model_id > following))
    return found
