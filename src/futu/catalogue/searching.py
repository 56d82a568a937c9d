"""What a search asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import (
    select,
)

from futu.catalogue.records import (
    Ids,
    ImageRecord,
    Vectors,
)
from futu.catalogue.schema import (
    READY,
    Image,
    Vector,
)
from futu.catalogue.session import Session, chunks, images_query
from futu.errors import UnknownImageError


class SearchQueries(Session):
    """Images and vectors."""

    def image(self, image_id: int) -> ImageRecord:
        """An image by id.

        Raises:
            UnknownImageError: there is none.
        """
        with self.read() as db:
            row = db.execute(images_query().where(Image.id == image_id)).mappings().first()
        if row is None:
            raise UnknownImageError(f"There is no image {image_id}.", id=image_id)
        return ImageRecord(**row)

    def images_of_vectors(
        self, vector_ids: Sequence[int], dataset_ids: Sequence[int]
    ) -> dict[int, list[ImageRecord]]:
        """Vector id -> searchable images of these datasets with that content, oldest first."""
        found: dict[int, list[ImageRecord]] = {}
        with self.read() as db:
            for chunk in chunks(vector_ids):
                # In two steps, each by an index: as one join, SQLite may walk all images.
                vectors = select(Vector.content_hash, Vector.id).where(Vector.id.in_(chunk))
                owners = {row[0]: row[1] for row in db.execute(vectors)}
                query = (
                    images_query(Image.content_hash)
                    .where(Image.content_hash.in_(list(owners)), Image.state == READY)
                    .order_by(Image.id)
                )
                for row in db.execute(query).mappings():
                    if row["dataset_id"] in dataset_ids:
                        vector_id = owners[row["content_hash"]]
                        image = ImageRecord(**row, vector_id=vector_id)
                        found.setdefault(vector_id, []).append(image)
        return found

    def searchable_vector_ids(self, model_id: str, dataset_ids: Sequence[int] | None = None) -> Ids:
        """Ids of the vectors that at least one searchable image has, ascending, int64."""
        query = (
            select(Vector.id)
            .distinct()
            .join(Image, Image.content_hash == Vector.content_hash)
            .where(Vector.model_id == model_id, Image.state == READY)
        )
        if dataset_ids is not None:
            query = query.where(Image.dataset_id.in_(dataset_ids))
        with self.read() as db:
            return np.sort(np.fromiter((row[0] for row in db.execute(query)), np.int64))

    def vectors(self, vector_ids: Sequence[int]) -> Iterator[tuple[Ids, Vectors]]:
        """These vectors in pieces: ids (n,) int64 and vectors (n, dimension) float16."""
        for chunk in chunks(vector_ids):
            with self.read() as db:
                rows = db.execute(
                    select(Vector.id, Vector.data).where(Vector.id.in_(chunk)).order_by(Vector.id)
                ).all()
            if rows:
                ids = np.array([row[0] for row in rows], np.int64)
                yield ids, np.stack([np.frombuffer(row[1], "<f2") for row in rows])
