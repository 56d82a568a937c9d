"""What is asked about the models of datasets. A change of one is one transaction."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    String,
    bindparam,
    exists,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from futu.catalogue.facts import MODEL_CHANGES, count_up
from futu.catalogue.records import ModelRecord, Outcome, ServedModels
from futu.catalogue.schema import (
    PENDING,
    READY,
    Dataset,
    DatasetModel,
    Fact,
    Image,
    Model,
    Vector,
)
from futu.catalogue.session import Session
from futu.errors import InvalidRequestError

FIRST = "similar"
"""The question whose vector makes an image searchable."""


class ModelQueries(Session):
    """Which model serves a question for a dataset, which is to, and which did before."""

    @contextlib.contextmanager
    def changing_models(self) -> Iterator[Connection]:
        """A transaction that changes which models serve; see ``write`` and ``model_changes``."""
        with self.write() as db:
            yield db
            if self.shared:
                count_up(db, self.insert_or(Fact), MODEL_CHANGES)
            self.models_changed()
        self.models_changed()

    def served(self, dataset_id: int | None = None) -> dict[int, dict[str, ServedModels]]:
        """Dataset id -> question -> its models; questions never indexed are left out."""
        query = select(DatasetModel.__table__)
        if dataset_id is not None:
            query = query.where(DatasetModel.dataset_id == dataset_id)
        with self.read() as db:
            known = {row[0]: ModelRecord(*row) for row in db.execute(select(*_model_columns()))}
            rows = db.execute(query).mappings().all()
        found: dict[int, dict[str, ServedModels]] = {}
        for row in rows:
            coming, former = (known.get(row[name]) for name in ("coming_id", "former_id"))
            models = ServedModels(known[row["serving_id"]], coming, former)
            found.setdefault(row["dataset_id"], {})[row["question"]] = models
        return found

    def stored_models(self) -> dict[str, ModelRecord]:
        """By model_id, every model that a dataset has or had."""
        with self.read() as db:
            return {row[0]: ModelRecord(*row) for row in db.execute(select(*_model_columns()))}

    def answering(self, question: str, default_id: str) -> dict[int, str]:
        """Dataset id -> the model that serves a question it answers, where an image has its vector.

        Args:
            question: which.
            default_id: the model of datasets that have none yet.
        """
        serving = func.coalesce(DatasetModel.serving_id, default_id)
        one = (
            select(Image.id)
            .join(Vector, Vector.content_hash == Image.content_hash)
            .where(Image.dataset_id == Dataset.id, Image.state == READY)
            .where(Vector.model_id == serving)
        )
        this = (DatasetModel.dataset_id == Dataset.id) & (DatasetModel.question == question)
        asked = type_coerce(Dataset.questions, String).contains(question)
        query = select(Dataset.id, serving).outerjoin(DatasetModel, this).where(asked, one.exists())
        with self.read() as db:
            return {row[0]: row[1] for row in db.execute(query)}

    def lacking(self, dataset_id: int, model_id: str) -> int:
        """How many searchable images of a dataset have no vector of this model."""
        query = select(func.count()).select_from(_without(dataset_id, model_id).subquery())
        with self.read() as db:
            return int(db.scalar(query) or 0)

    # --- changed ---------------------------------------------------------------------------

    def serve_by_default(self, dataset_id: int, models: Collection[ModelRecord]) -> None:
        """Let these models serve a dataset for those of their questions that have none yet."""
        with self.changing_models() as db:
            for model in models:
                self.learn_model(db, model)
                db.execute(
                    self.insert_or(DatasetModel)
                    .values(
                        dataset_id=dataset_id, question=model.question, serving_id=model.model_id
                    )
                    .on_conflict_do_nothing()
                )

    def choose_model(self, dataset_id: int, model: ModelRecord) -> bool:
        """Let a model answer its question for a dataset, as soon as its vectors are complete.

        Where the model that serves now has no vectors there is nothing to keep, and this one
        serves at once. The one that serves already: a change to another is dropped.

        Returns:
            Whether another model serves now.
        """
        with self.changing_models() as db:
            self.learn_model(db, model)
            row = row_of(db, dataset_id, model.question)
            if row is None:
                db.execute(
                    insert(DatasetModel).values(
                        dataset_id=dataset_id, question=model.question, serving_id=model.model_id
                    )
                )
                return True
            if row["serving_id"] == model.model_id:
                _set(db, dataset_id, model.question, coming_id=None)
                return False
            if _has_vectors(db, dataset_id, row["serving_id"]):
                _set(db, dataset_id, model.question, coming_id=model.model_id)
                return False
            _set(db, dataset_id, model.question, serving_id=model.model_id, coming_id=None)
            if model.question == FIRST:
                let_wait(db, dataset_id, model.model_id)
            return True

    def swap_models(
        self, dataset_id: int, question: str, coming_id: str, refused: Mapping[bytes, Outcome]
    ) -> int:
        """Let the coming model serve, in one step, if every image that can have its vector has.

        Args:
            dataset_id: whose.
            question: for which.
            coming_id: the model that was built; another one coming by now is left alone.
            refused: contents of which the model makes nothing. For ``similar`` their images fail.

        Returns:
            How many images hold it up; 0: it serves, or is not coming any more.
        """
        with self.changing_models() as db:
            row = row_of(db, dataset_id, question)
            if row is None or row["coming_id"] != coming_id:
                return 0
            found = db.execute(_without(dataset_id, coming_id))
            without = [bytes(content or b"") for _, content in found]
            if held_up := sum(content not in refused for content in without):
                return held_up
            if question == FIRST:
                for content in set(without):
                    _fail(db, dataset_id, refused[content])
            _set(
                db,
                dataset_id,
                question,
                serving_id=coming_id,
                coming_id=None,
                former_id=row["serving_id"],
            )
            return 0

    def drop_coming(self, dataset_id: int, question: str) -> ModelRecord | None:
        """Drop a change of models that is not complete; the model that was coming, if any."""
        with self.changing_models() as db:
            row = row_of(db, dataset_id, question)
            if row is None or row["coming_id"] is None:
                return None
            _set(db, dataset_id, question, coming_id=None)
            this = Model.model_id == row["coming_id"]
            return ModelRecord(*db.execute(select(*_model_columns()).where(this)).one())

    def serve_former(self, dataset_id: int, question: str) -> int:
        """Let the former model serve again, in one step; the two change places.

        Returns:
            How many images have no vector of it. For ``similar`` they wait for it.

        Raises:
            InvalidRequestError: there is no former model.
        """
        with self.changing_models() as db:
            row = row_of(db, dataset_id, question)
            if row is None or row["former_id"] is None:
                raise InvalidRequestError(
                    f"No former model of this dataset for {question!r} is kept: it was never "
                    "changed, or the former vectors were pruned. Choose a model by its name: "
                    "futu models use DATASET MODEL.",
                    question=question,
                )
            former_id = row["former_id"]
            _set(
                db,
                dataset_id,
                question,
                serving_id=former_id,
                coming_id=None,
                former_id=row["serving_id"],
            )
            if question == FIRST:
                return let_wait(db, dataset_id, former_id)
            without = _without(dataset_id, former_id).subquery()
            return int(db.scalar(select(func.count()).select_from(without)) or 0)

    def learn_model(self, db: Connection, model: ModelRecord) -> None:
        """Let a model be named by rows of datasets."""
        facts = {"name": model.name, "question": model.question, "dimension": model.dimension}
        db.execute(
            self.insert_or(Model).values(model_id=model.model_id, **facts).on_conflict_do_nothing()
        )


def searchable_by(
    db: Connection, model_ids: Collection[str], default_id: str
) -> tuple[set[int], bool]:
    """The datasets whose images are searchable when they have a vector of one of these models.

    Args:
        db: a transaction.
        model_ids: the models.
        default_id: the model of datasets that have none yet.

    Returns:
        Their ids, and whether these are all datasets.
    """
    serving = serving_first(db, default_id)
    served = {dataset_id for dataset_id, model_id in serving.items() if model_id in model_ids}
    return served, len(served) == len(serving)


def serving_first(db: Connection, default_id: str) -> dict[int, str]:
    """Dataset id -> the model that makes its images searchable; see ``searchable_by``."""
    rows = db.execute(_serving_first(), {"default_id": default_id})
    return {row[0]: row[1] for row in rows}


@functools.cache
def _serving_first() -> Any:
    """Each dataset with the model that makes its images searchable; built once, run very often."""
    first = (DatasetModel.dataset_id == Dataset.id) & (DatasetModel.question == FIRST)
    serving = func.coalesce(DatasetModel.serving_id, bindparam("default_id", type_=String))
    return select(Dataset.id, serving).outerjoin(DatasetModel, first)


def is_served_by(db: Connection, dataset_id: int, model_id: str) -> bool:
    """Whether this model makes images of a dataset searchable; so do all where none is chosen."""
    row = row_of(db, dataset_id, FIRST)
    return row is None or bool(row["serving_id"] == model_id)


def _model_columns() -> tuple[Any, ...]:
    return Model.model_id, Model.name, Model.question, Model.dimension


def row_of(db: Connection, dataset_id: int, question: str) -> Any:
    """The models of a dataset for a question; None: it has none yet."""
    this = (DatasetModel.dataset_id == dataset_id) & (DatasetModel.question == question)
    return db.execute(select(DatasetModel.__table__).where(this)).mappings().first()


def _set(db: Connection, dataset_id: int, question: str, **values: str | None) -> None:
    this = (DatasetModel.dataset_id == dataset_id) & (DatasetModel.question == question)
    db.execute(update(DatasetModel).where(this).values(**values))


def _without(dataset_id: int, model_id: str) -> Any:
    """Id and content of the searchable images of a dataset that have no vector of a model."""
    vector = (Vector.content_hash == Image.content_hash) & (Vector.model_id == model_id)
    return (
        select(Image.id, Image.content_hash)
        .outerjoin(Vector, vector)
        .where(Image.dataset_id == dataset_id, Image.state == READY, Vector.id.is_(None))
    )


def _has_vectors(db: Connection, dataset_id: int, model_id: str) -> bool:
    one = (
        select(Image.id)
        .join(Vector, Vector.content_hash == Image.content_hash)
        .where(Image.dataset_id == dataset_id, Image.state == READY, Vector.model_id == model_id)
    )
    return bool(db.scalar(select(one.exists())))


def let_wait(db: Connection, dataset_id: int, model_id: str) -> int:
    """Let the searchable images of a dataset that have no vector of a model wait for it."""
    vector = exists().where(Vector.content_hash == Image.content_hash, Vector.model_id == model_id)
    this = (Image.dataset_id == dataset_id) & (Image.state == READY)
    return db.execute(update(Image).where(this, ~vector).values(state=PENDING)).rowcount


def _fail(db: Connection, dataset_id: int, outcome: Outcome) -> None:
    this = (Image.dataset_id == dataset_id) & (Image.content_hash == outcome.content_hash)
    refused = {"state": outcome.state, "error_code": outcome.error_code, "error": outcome.error}
    db.execute(update(Image).where(this, Image.state == READY).values(**refused))
