"""Changing the model of a dataset: the new vectors are made while the old ones are searched.

The model that is to serve is recorded, and the builds that follow make its vectors. The one at
whose end they are complete lets it serve, in one transaction; before that nothing is different
for a search, whatever is killed. The former model's vectors stay until they are pruned, so the
way back is one transaction too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from futu.catalogue.records import DatasetRecord, ModelRecord, Pruned
from futu.catalogue.store import Catalogue
from futu.controller.describe import told_apart
from futu.controller.ingest import Ingest
from futu.controller.serving import Serving
from futu.errors import InvalidRequestError
from futu.index.live_indexes import LiveIndexes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Switched:
    """What came of a request for another model.

    Attributes:
        serving: the model that is searched now.
        coming: the one whose vectors are being made.
        message: the same in a sentence.
    """

    serving: ModelRecord
    coming: ModelRecord | None
    message: str


class Switch:
    """Changes the models of datasets.

    Args:
        catalogue: where they are recorded.
        ingest: builds what is lacking.
        indexes: of the models in use.
        serving: which models datasets have.
    """

    def __init__(
        self, catalogue: Catalogue, ingest: Ingest, indexes: LiveIndexes, serving: Serving
    ) -> None:
        self._catalogue = catalogue
        self._ingest = ingest
        self._indexes = indexes
        self._serving = serving

    def use(self, dataset: DatasetRecord, model: ModelRecord) -> Switched:
        """Let a model answer its question for a dataset, as soon as its vectors are complete.

        The same again goes on with it. The model that serves drops a change to another.

        Raises:
            InvalidRequestError: the dataset does not answer the model's question.
        """
        question = model.question
        if question not in dataset.questions:
            raise InvalidRequestError(
                f"The model {model.name} answers {question!r}, which {dataset.name} does not. Run "
                f"'futu index {dataset.name} --questions similar,{question}' first.",
                dataset=dataset.name,
                question=question,
            )
        if self._serving.of(dataset)[question].serving == model:
            return self._stay(dataset, question)
        # Its index is there before anything can ask for it.
        with self._ingest.used.models_lock:
            self._ingest.used.use([model])
            self._ingest.change_models(
                dataset, lambda: self._catalogue.choose_model(dataset.id, model)
            )
            self._ingest.used.use()
        return self._switched(dataset, question, "")

    def back(self, dataset: DatasetRecord, question: str) -> Switched:
        """Drop a change that is not complete, or else let the former model serve again, at once.

        Raises:
            InvalidRequestError: there is no former model.
        """
        models = self._serving.of(dataset).get(question)
        if models is None:
            raise InvalidRequestError(
                f"{dataset.name} does not answer {question!r}.", field="question"
            )
        if models.coming is not None:
            return self._stay(dataset, question)
        lacking = 0

        def serve_former() -> bool:
            nonlocal lacking
            lacking = self._catalogue.serve_former(dataset.id, question)
            return True

        with self._ingest.used.models_lock:
            self._ingest.used.use([models.former] if models.former else ())
            self._ingest.change_models(dataset, serve_former)
            self._ingest.used.use()
        note = " Every image has its vector."
        if lacking:
            images = "1 image added since lacks" if lacking == 1 else f"{lacking} images lack"
            note = f" {images} its vector and {'is' if lacking == 1 else 'are'} made now."
        return self._switched(dataset, question, note)

    def prune(self, datasets: Sequence[DatasetRecord]) -> Pruned:
        """Forget the former models of datasets; remove the vectors that no dataset keeps."""
        with self._ingest.used.models_lock:
            pruned = self._catalogue.prune([dataset.id for dataset in datasets])
            self._ingest.used.level()
            self._indexes.forget(pruned.model_ids)
        log.info("pruned %d vectors of %s", pruned.vectors, ", ".join(pruned.model_ids) or "none")
        return pruned

    def _stay(self, dataset: DatasetRecord, question: str) -> Switched:
        dropped: ModelRecord | None = None

        def drop() -> bool:
            nonlocal dropped
            dropped = self._catalogue.drop_coming(dataset.id, question)
            return dropped is not None

        with self._ingest.used.models_lock:
            self._ingest.change_models(dataset, drop, build=False)
            self._ingest.used.use()
        note = f" The change to {dropped.name} is dropped." if dropped is not None else ""
        return self._switched(dataset, question, note)

    def _switched(self, dataset: DatasetRecord, question: str, note: str) -> Switched:
        models = self._serving.of(dataset)[question]
        if models.coming is None:
            message = f"{models.serving.name} serves {question!r} of {dataset.name}.{note}"
        else:
            serving, coming = told_apart(models.serving, models.coming)
            message = (
                f"The vectors of {coming} are being made; until they are complete, "
                f"{serving} serves {question!r} of {dataset.name}."
            )
        log.info("%s", message)
        return Switched(models.serving, models.coming, message)
