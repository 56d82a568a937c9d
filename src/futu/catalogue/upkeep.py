"""Vectors that no dataset keeps, and datasets from before they had models of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from futu.catalogue.listing import models_of_vectors
from futu.catalogue.models import FIRST, ModelQueries, let_wait, row_of
from futu.catalogue.records import ModelRecord, Pruned
from futu.catalogue.schema import READY, Build, Dataset, DatasetModel, Image, Vector
from futu.catalogue.session import chunks

_PRUNED_AT_ONCE = 2000


class ModelUpkeep(ModelQueries):
    """What is done to the models of all datasets at once."""

    def prune(self, dataset_ids: Collection[int]) -> Pruned:
        """Forget the former models of datasets, and remove vectors that no dataset keeps.

        In pieces: one that is interrupted is completed by the next. Images of other datasets
        keep theirs.
        """
        with self.changing_models() as db:
            for chunk in chunks(list(dataset_ids)):
                this = DatasetModel.dataset_id.in_(chunk)
                db.execute(update(DatasetModel).where(this).values(former_id=None))
        with self.read() as db:
            model_ids = models_of_vectors(db)
        vectors = size_bytes = 0
        gone: list[str] = []
        for model_id in model_ids:
            last: bytes | None = b""
            while last is not None:
                with self.write() as db:
                    removed, bytes_, last = _prune_piece(db, model_id, last)
                vectors, size_bytes = vectors + removed, size_bytes + bytes_
            with self.read() as db:
                if not db.scalar(select(exists().where(Vector.model_id == model_id))):
                    gone.append(model_id)
        if vectors:
            # Other controllers compare their indexes when this is counted up.
            with self.changing_models():
                pass
        return Pruned(vectors, size_bytes, tuple(gone))

    def stored_vector_models(self) -> list[str]:
        """The model_ids that there are vectors of."""
        with self.read() as db:
            return models_of_vectors(db)

    # --- from before datasets had models of their own ----------------------------------------

    def adopt_models(
        self, known: Mapping[str, ModelRecord], defaults: Mapping[str, ModelRecord]
    ) -> None:
        """Let datasets that were indexed before that be served by what most of their images have.

        Args:
            known: model_id -> the models there are now.
            defaults: question -> model, where nothing is found.
        """
        ready = exists().where(Image.dataset_id == Dataset.id, Image.state == READY)
        with self.read() as db:
            datasets = db.execute(select(Dataset.id, Dataset.questions).where(ready)).all()
            chosen = {
                tuple(row)
                for row in db.execute(select(DatasetModel.dataset_id, DatasetModel.question))
            }
        for dataset_id, questions in datasets:
            open_ = [q for q in questions if (dataset_id, q) not in chosen]
            if open_:
                self._adopt(dataset_id, open_, known, defaults)

    def _adopt(
        self,
        dataset_id: int,
        questions: Sequence[str],
        known: Mapping[str, ModelRecord],
        defaults: Mapping[str, ModelRecord],
    ) -> None:
        counted = (
            select(Vector.model_id, func.count(), func.max(func.length(Vector.data)))
            .join(Image, Image.content_hash == Vector.content_hash)
            .where(Image.dataset_id == dataset_id, Image.state == READY)
            .group_by(Vector.model_id)
        )
        built = select(Build.model_id).where(Build.dataset_id == dataset_id).distinct()
        of_name = {model.name: model.question for model in known.values()}
        with self.changing_models() as db:
            similar = {row[0] for row in db.execute(built)}
            found: list[tuple[int, ModelRecord]] = []
            for model_id, count, size_bytes in db.execute(counted):
                name = model_id.rpartition("-")[0]
                question = FIRST if model_id in similar else of_name.get(name, "copy")
                guess = ModelRecord(model_id, name, question, size_bytes // 2)
                found.append((count, known.get(model_id, guess)))
            found.sort(key=lambda one: (-one[0], one[1] not in defaults.values()))
            for model in (*(model for _, model in found), *defaults.values()):
                self._adopt_one(db, dataset_id, questions, model)
            if FIRST in questions:
                row = row_of(db, dataset_id, FIRST)
                assert row is not None  # noqa: S101 - written above
                let_wait(db, dataset_id, row["serving_id"])

    def _adopt_one(
        self, db: Connection, dataset_id: int, questions: Sequence[str], model: ModelRecord
    ) -> None:
        if model.question in questions:
            self.learn_model(db, model)
            values = {"question": model.question, "serving_id": model.model_id}
            db.execute(
                self.insert_or(DatasetModel)
                .values(dataset_id=dataset_id, **values)
                .on_conflict_do_nothing()
            )


def _prune_piece(db: Connection, model_id: str, after: bytes) -> tuple[int, int, bytes | None]:
    """Remove vectors of a model that no dataset keeps, from the contents after one.

    Returns:
        How many, how many bytes, and the last content looked at; None at the end.
    """
    rows = db.execute(
        select(Vector.id, Vector.content_hash, func.length(Vector.data))
        .where(Vector.model_id == model_id, Vector.content_hash > after)
        .order_by(Vector.content_hash)
        .limit(_PRUNED_AT_ONCE)
    ).all()
    if not rows:
        return 0, 0, None
    keeps = or_(
        DatasetModel.serving_id == model_id,
        DatasetModel.coming_id == model_id,
        DatasetModel.former_id == model_id,
    )
    keepers = [row[0] for row in db.execute(select(DatasetModel.dataset_id).where(keeps))]
    kept: set[bytes] = set()
    owned: set[bytes] = set()
    if keepers:
        for chunk in chunks([row[1] for row in rows]):
            owners = select(Image.content_hash, Image.dataset_id).where(
                Image.content_hash.in_(chunk)
            )
            for content, dataset_id in db.execute(owners):
                owned.add(bytes(content or b""))
                if dataset_id in keepers:
                    kept.add(bytes(content or b""))
        # A content that no file has may come back to a dataset that keeps the model.
        kept |= {bytes(row[1]) for row in rows} - owned
    gone = [row for row in rows if bytes(row[1]) not in kept]
    for piece in chunks([row[0] for row in gone]):
        db.execute(delete(Vector).where(Vector.id.in_(piece)))
    return len(gone), sum(row[2] for row in gone), bytes(rows[-1][1])
