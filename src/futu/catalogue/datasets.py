"""What is asked about datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from futu.catalogue.records import (
    DatasetRecord,
    ImageRecord,
)
from futu.catalogue.schema import (
    READY,
    Dataset,
    Image,
    ImageCount,
)
from futu.catalogue.session import Session, chunks, images_query, now
from futu.errors import InvalidRequestError, UnknownDatasetError


class DatasetQueries(Session):
    """Datasets, and how many images they have."""

    def add_dataset(
        self, name: str, folder: str, questions: Sequence[str] = ("similar",)
    ) -> DatasetRecord:
        """Register a folder; the same name and folder again is no change.

        Raises:
            InvalidRequestError: the name or the folder belongs to another dataset.
        """
        try:
            with self.write(searchable=False) as db:
                db.execute(
                    insert(Dataset).values(
                        name=name, folder=folder, questions=tuple(questions), created_at=now()
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
            rows = db.execute(_datasets()).mappings()
            # Databases sort names each in their own way.
            return sorted((DatasetRecord(**row) for row in rows), key=lambda d: d.name)

    def dataset(self, name_or_id: str | int) -> DatasetRecord:
        """A dataset by its id when that is a number, else by its name, or by its id in digits.

        Raises:
            UnknownDatasetError: no dataset has that name or id.
        """
        row = None
        with self.read() as db:
            if isinstance(name_or_id, str):
                query = _datasets().where(Dataset.name == name_or_id)
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
        """Dataset id -> searchable images, for datasets that have any."""
        query = select(ImageCount.dataset_id, ImageCount.images).where(
            ImageCount.state == READY, ImageCount.images > 0
        )
        with self.read() as db:
            return {row[0]: row[1] for row in db.execute(query)}

    def state_counts(self) -> dict[tuple[str, str], int]:
        """Images by the name of their dataset and their state, where there are any."""
        query = select(Dataset.name, ImageCount.state, ImageCount.images).where(
            ImageCount.dataset_id == Dataset.id, ImageCount.images > 0
        )
        with self.read() as db:
            return {(row[0], row[1]): row[2] for row in db.execute(query)}

    def first_images(self) -> dict[int, ImageRecord]:
        """Dataset id -> its first searchable image."""
        first = (
            select(Image.id)
            .where(Image.dataset_id == Dataset.id, Image.state == READY)
            .order_by(Image.dataset_id, Image.state, Image.id)
            .limit(1)
            .scalar_subquery()
        )
        with self.read() as db:
            ids = [row[0] for row in db.execute(select(first, Dataset.id)) if row[0] is not None]
            found: dict[int, ImageRecord] = {}
            for chunk in chunks(ids):
                rows = db.execute(images_query().where(Image.id.in_(chunk))).mappings()
                found.update({row["dataset_id"]: ImageRecord(**row) for row in rows})
            return found

    def set_questions(self, dataset_id: int, questions: Sequence[str]) -> bool:
        """Let a dataset answer these questions from now on; False when it does already."""
        this = (Dataset.id == dataset_id) & (Dataset.questions != tuple(questions))
        with self.write(searchable=False) as db:
            changed = update(Dataset).where(this).values(questions=tuple(questions))
            return bool(db.execute(changed).rowcount)

    def set_reference(self, dataset_id: int, *, reference: bool) -> None:
        """Let the files of a dataset be kept whatever they are copies of, or not."""
        with self.write(searchable=False) as db:
            db.execute(update(Dataset).where(Dataset.id == dataset_id).values(reference=reference))

    def set_watched(self, dataset_id: int, watched: bool) -> None:
        """Let a dataset be watched from now on, or no longer."""
        with self.write(searchable=False) as db:
            db.execute(update(Dataset).where(Dataset.id == dataset_id).values(watched=watched))


def _datasets() -> Any:
    return select(
        Dataset.id,
        Dataset.name,
        Dataset.folder,
        Dataset.description,
        Dataset.questions,
        Dataset.reference,
        Dataset.watched,
    )
