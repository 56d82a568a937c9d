"""What a search asks."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    LargeBinary,
    bindparam,
    select,
    text,
    type_coerce,
)

from futu.catalogue.records import (
    Ids,
    ImageRecord,
    Scope,
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
        rows = self.rows(_image_by_id(), {"id": image_id})
        if not rows:
            raise UnknownImageError(f"There is no image {image_id}.", id=image_id)
        return ImageRecord(*rows[0])

    def image_of_content(self, content_hash: bytes) -> ImageRecord | None:
        """The oldest searchable image with a content, if there is one."""
        rows = self.rows(_images_of_content(), {"hash": content_hash})
        return ImageRecord(*rows[0]) if rows else None

    def image_at(self, dataset_id: int, path: str) -> ImageRecord | None:
        """The image at a path of a dataset, if there is one."""
        rows = self.rows(_image_at(), {"dataset": dataset_id, "path": path})
        return ImageRecord(*rows[0]) if rows else None

    def vector_of_content(self, content_hash: bytes, model_id: str) -> Vectors | None:
        """The vector of a content under a model, shape (dimension,), if there is one."""
        rows = self.rows(_vector_of_content(), {"hash": content_hash, "model": model_id})
        return np.frombuffer(rows[0][0], "<f2") if rows else None

    def images_of_vectors(
        self, vector_ids: Sequence[int], dataset_ids: Sequence[int]
    ) -> dict[int, list[ImageRecord]]:
        """Vector id -> searchable images of these datasets with that content, oldest first."""
        found: dict[int, list[ImageRecord]] = {}
        for chunk in chunks(vector_ids):
            for row in self.rows(_images_of_vectors(), {"ids": chunk, "state": READY}):
                if row.dataset_id in dataset_ids:
                    found.setdefault(row.vector_id, []).append(ImageRecord(*row))
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

    def vector_ids_in(self, scope: Scope, model_id: str, most: int | None = None) -> Ids | None:
        """Ids of the vectors that at least one searchable image in a scope has.

        Args:
            scope: which images.
            model_id: whose vectors.
            most: stop at more images than so many; None: never.

        Returns:
            Ids, ascending, int64; None when there are more than ``most`` images.
        """
        query = scope_query(scope, model_id)
        if most is not None:
            query = query.limit(most + 1)
        with self.read() as db:
            ids = np.fromiter((row[0] for row in db.execute(query)), np.int64)
        return None if most is not None and len(ids) > most else np.unique(ids)

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


def scope_query(scope: Scope, model_id: str) -> Any:
    """Select the vector id of each searchable image in a scope.

    With a bound on path, time or size the database walks its index, otherwise that on the state.
    """
    query = (
        select(Vector.id)
        .select_from(Image)
        .join(Vector, (Vector.content_hash == Image.content_hash) & (Vector.model_id == model_id))
        .where(Image.dataset_id.in_(scope.dataset_ids))
    )
    ranges: list[Any] = []
    if scope.path_prefix:
        path, begin = type_coerce(Image.path, LargeBinary), os.fsencode(scope.path_prefix)
        end = _after_prefix(begin)
        ranges += [path >= begin] if end is None else [path >= begin, path < end]
    if scope.after_ns is not None:
        ranges.append(Image.mtime_ns >= scope.after_ns)
    if scope.before_ns is not None:
        ranges.append(Image.mtime_ns < scope.before_ns)
    for column, least, most in (
        (Image.size, scope.min_size, scope.max_size),
        (Image.width, scope.min_width, scope.max_width),
        (Image.height, scope.min_height, scope.max_height),
    ):
        if least is not None:
            ranges.append(column >= least)
        if most is not None:
            ranges.append(column <= most)
    return query.where(Image.state == READY, *ranges)


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first byte string after all that begin with a prefix; None: there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


# Statements are built once: to build one takes longer than to run it.


@functools.cache
def _images() -> Any:
    return images_query(Image.content_hash)


@functools.cache
def _image_by_id() -> Any:
    return _images().where(Image.id == bindparam("id"))


@functools.cache
def _images_of_content() -> Any:
    searchable = (Image.content_hash == bindparam("hash")) & (Image.state == READY)
    return _images().where(searchable).order_by(Image.id).limit(1)


@functools.cache
def _image_at() -> Any:
    place = (Image.dataset_id == bindparam("dataset")) & (Image.path == bindparam("path"))
    return _images().where(place)


@functools.cache
def _images_of_vectors() -> Any:
    # CROSS JOIN keeps SQLite to this order: it might walk all images first.
    columns = [*_images().selected_columns, Vector.id.label("vector_id")]
    names = ", ".join(str(column) for column in columns)
    statement = text(
        f"SELECT {names} FROM vectors CROSS JOIN images CROSS JOIN datasets "  # noqa: S608
        "WHERE vectors.id IN :ids AND images.content_hash = vectors.content_hash "
        "AND images.state = :state AND datasets.id = images.dataset_id ORDER BY images.id"
    )
    return statement.bindparams(bindparam("ids", expanding=True)).columns(*columns)


@functools.cache
def _vector_of_content() -> Any:
    return select(Vector.data).where(
        Vector.content_hash == bindparam("hash"), Vector.model_id == bindparam("model")
    )
