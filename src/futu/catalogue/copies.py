"""What a search for duplicates asks about images, their contents and pixels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

from sqlalchemy import Table, func, select

from futu.catalogue.bulk import insert_rows
from futu.catalogue.duplicate_records import ReadyImage
from futu.catalogue.duplicate_schema import PixelHash
from futu.catalogue.schema import READY, Image, Vector
from futu.catalogue.session import Session, chunks

_PIXELS = cast(Table, PixelHash.__table__)


class CopyQueries(Session):
    """Contents that several files have, and what else makes files the same."""

    def repeated_contents(self, dataset_ids: Collection[int]) -> list[bytes]:
        """Content hashes that more than one searchable image of these datasets has."""
        query = (
            select(Image.content_hash)
            .where(Image.dataset_id.in_(dataset_ids), Image.state == READY)
            .group_by(Image.content_hash)
            .having(func.count() > 1)
        )
        with self.read() as db:
            return [bytes(row[0] or b"") for row in db.execute(query)]

    def ready_images(
        self, hashes: Sequence[bytes], dataset_ids: Collection[int]
    ) -> dict[bytes, list[ReadyImage]]:
        """Content hash -> the searchable images of these datasets that have it, oldest first."""
        wanted, found = set(dataset_ids), dict[bytes, list[ReadyImage]]()
        columns = (
            Image.id,
            Image.dataset_id,
            Image.path,
            Image.size,
            Image.mtime_ns,
            Image.width,
            Image.height,
            Image.content_hash,
        )
        with self.read() as db:
            for chunk in chunks(hashes):
                these = Image.content_hash.in_(chunk) & (Image.state == READY)
                for row in db.execute(select(*columns).where(these).order_by(Image.id)):
                    if row[1] in wanted:
                        digest = bytes(row[7] or b"")
                        found.setdefault(digest, []).append(ReadyImage(*row[:7], digest))
        return found

    def contents_of(self, vector_ids: Sequence[int]) -> dict[int, bytes]:
        """Vector id -> content hash."""
        found: dict[int, bytes] = {}
        with self.read() as db:
            for chunk in chunks(vector_ids):
                query = select(Vector.id, Vector.content_hash).where(Vector.id.in_(chunk))
                found.update((row[0], bytes(row[1])) for row in db.execute(query))
        return found

    def pixel_hashes(self, hashes: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Content hash -> hash of its pixels, for those of which it is known; None: has none."""
        found: dict[bytes, bytes | None] = {}
        with self.read() as db:
            for chunk in chunks(hashes):
                query = select(_PIXELS).where(_PIXELS.c.content_hash.in_(chunk))
                found.update((bytes(row[0]), row[1]) for row in db.execute(query))
        return found

    def keep_pixel_hashes(self, found: Mapping[bytes, bytes | None]) -> None:
        """Remember hashes of pixels; those that are known stay."""
        names = ["content_hash", "pixel_hash"]
        with self.write(searchable=False) as db:
            insert_rows(db, _PIXELS, names, list(found.items()), key=["content_hash"])
