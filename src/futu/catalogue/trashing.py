"""What is asked when images go to the trash and come home."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import cast

from sqlalchemy import Table, select, tuple_, update

from futu.catalogue.duplicate_schema import OPEN, RESOLVED, DuplicateGroup, DuplicateMember
from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import MISSING, PENDING, READY, Image
from futu.catalogue.session import Session, chunks, images_query, vector_ids_of

TRASHED = "trashed"
"""The error code of a missing image that is in the trash."""

_GROUPS = cast(Table, DuplicateGroup.__table__)
_MEMBERS = cast(Table, DuplicateMember.__table__)


class TrashQueries(Session):
    """Images that leave and come back."""

    def images_by_id(self, image_ids: Iterable[int]) -> dict[int, ImageRecord]:
        """Id -> image in any state, for those that there are."""
        found: dict[int, ImageRecord] = {}
        with self.read() as db:
            for chunk in chunks(sorted(set(image_ids))):
                query = images_query(Image.content_hash).where(Image.id.in_(chunk))
                found.update((r["id"], ImageRecord(**r)) for r in db.execute(query).mappings())
        return found

    def images_at(self, places: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """Dataset id and path -> image id, for those that there are."""
        found: dict[tuple[int, str], int] = {}
        of_dataset: dict[int, list[str]] = {}
        for dataset_id, path in places:
            of_dataset.setdefault(dataset_id, []).append(path)
        with self.read() as db:
            for dataset_id, paths in of_dataset.items():
                for chunk in chunks(paths):
                    query = select(Image.path, Image.id).where(
                        Image.dataset_id == dataset_id, Image.path.in_(chunk)
                    )
                    found.update(((dataset_id, row[0]), row[1]) for row in db.execute(query))
        return found

    def mark_trashed(self, image_ids: Sequence[int], operation: str) -> None:
        """These images have left for the trash; they leave all results."""
        values = {
            "state": MISSING,
            "error_code": TRASHED,
            "error": f"In the trash; futu trash undo {operation} brings it home.",
        }
        with self.write() as db:
            for chunk in chunks(image_ids):
                db.execute(update(Image).where(Image.id.in_(chunk)).values(**values))

    def bring_back(self, contents: Mapping[int, bytes], model_id: str) -> list[int]:
        """These images are home again: searchable at once if their vectors are there.

        Args:
            contents: image id -> content hash. One that has another content by now, or was seen
                there since, stays as it is.
            model_id: the model whose vector makes an image searchable.

        Returns:
            Ids of their datasets.
        """
        datasets: set[int] = set()
        with self.write() as db:
            for chunk in chunks(list(contents.items())):
                query = select(Image.id, Image.dataset_id, Image.content_hash, Image.state).where(
                    Image.id.in_([image_id for image_id, _ in chunk])
                )
                rows = db.execute(query).all()
                datasets |= {row.dataset_id for row in rows}
                back = [
                    (row.id, row.content_hash)
                    for row in rows
                    if row.state == MISSING and row.content_hash == contents[row.id]
                ]
                known = vector_ids_of(db, [content for _, content in back], model_id)
                for state, ids in (
                    (READY, [i for i, content in back if content in known]),
                    (PENDING, [i for i, content in back if content not in known]),
                ):
                    values = {"state": state, "error_code": None, "error": None}
                    db.execute(update(Image).where(Image.id.in_(ids)).values(**values))
        return sorted(datasets)

    def members_of(
        self, groups: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], dict[int, bytes]]:
        """(run id, number) -> image id -> content hash, for the groups that there are."""
        found: dict[tuple[int, int], dict[int, bytes]] = {}
        columns = _MEMBERS.c
        with self.read() as db:
            for chunk in chunks(sorted(set(groups))):
                query = select(
                    columns.run_id, columns.number, columns.image_id, columns.content_hash
                ).where(tuple_(columns.run_id, columns.number).in_(chunk))
                for run_id, number, image_id, content in db.execute(query):
                    found.setdefault((run_id, number), {})[image_id] = bytes(content)
        return found

    def settle_groups(self, groups: Sequence[tuple[int, int]], *, resolved: bool) -> None:
        """Let open groups, (run id, number), be resolved; or resolved ones open again.

        No decision is remembered for it: what is in the trash is in no group of a later run.
        """
        was, is_now = (OPEN, RESOLVED) if resolved else (RESOLVED, OPEN)
        with self.write() as db:
            for chunk in chunks(groups):
                these = tuple_(_GROUPS.c.run_id, _GROUPS.c.number).in_(chunk)
                db.execute(
                    update(_GROUPS).where(these, _GROUPS.c.state == was).values(state=is_now)
                )
