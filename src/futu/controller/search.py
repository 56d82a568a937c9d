"""Searching: from datasets to the models that serve them, their indexes, and their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from futu.catalogue.records import DatasetRecord, ModelRecord, Scope
from futu.catalogue.store import Catalogue
from futu.controller.fresh import FreshCache
from futu.controller.neighbours import Asked, Neighbours, Page
from futu.controller.serving import Serving
from futu.errors import IndexUnavailableError, NotIndexedError
from futu.index.live import LiveIndex
from futu.index.live_indexes import LiveIndexes
from futu.jobs.measures import Measures

Vector = npt.NDArray[np.float32]
VectorsOf = Callable[[Sequence[ModelRecord], Sequence[ModelRecord]], Mapping[str, Vector]]
"""Gives the query's vectors by model_id: of the first models, and of the second if they are to be
had."""


@dataclass(frozen=True)
class Served:
    """Datasets that one model serves, and the index to search.

    A change of models closes no index that somebody has in hand.

    Attributes:
        whole: whether these are all datasets that it serves.
    """

    model: ModelRecord
    live: LiveIndex
    datasets: tuple[DatasetRecord, ...]
    whole: bool


class Search:
    """Finds neighbours of pictures, by the model that serves a question for a dataset.

    Args:
        catalogue: images and their vectors.
        indexes: of the models in use.
        serving: which models datasets have.
        measures: has the times of its stages.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        indexes: LiveIndexes,
        serving: Serving,
        measures: Measures | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._indexes = indexes
        self._serving = serving
        self._neighbours = Neighbours(catalogue, serving.scale, measures)
        self._datasets: FreshCache[dict[str, DatasetRecord]] = FreshCache(1)
        self._answering: FreshCache[dict[int, ModelRecord]] = FreshCache(8)

    def datasets(self) -> dict[str, DatasetRecord]:
        """All datasets by name."""
        catalogue = self._catalogue
        return self._datasets.get(
            "", catalogue.changes, lambda: {d.name: d for d in catalogue.datasets()}
        )

    def check_indexed(
        self, datasets: Sequence[DatasetRecord], question: str = "similar"
    ) -> list[DatasetRecord]:
        """Those of the datasets that can be searched.

        Raises:
            NotIndexedError: none of them has anything indexed for the question.
        """
        ready = self.indexed(datasets, question)
        if not ready:
            raise self._not_indexed(datasets, question)
        return ready

    def indexed(
        self, datasets: Sequence[DatasetRecord], question: str = "similar"
    ) -> list[DatasetRecord]:
        """Those of the datasets that can be searched, which may be none."""
        answering = self.answering(question)
        return [dataset for dataset in datasets if dataset.id in answering]

    def answering(self, question: str) -> dict[int, ModelRecord]:
        """See ``Serving.answering``; kept while nothing has changed."""
        # What serves may have been looked up before it was changed, but not kept beyond that.
        return self._answering.get(
            (question, self._catalogue.model_changes),
            self._catalogue.changes,
            lambda: self._serving.answering(question),
        )

    def served(
        self, datasets: Sequence[DatasetRecord], question: str = "similar"
    ) -> list[Served] | None:
        """Those of the datasets that can be searched, by model; the default model comes first.

        None: a model's index is not there: it has gone out of use meanwhile, or is not ready.
        """
        answering = self.answering(question)
        groups: dict[ModelRecord, list[DatasetRecord]] = {}
        for dataset in datasets:
            if dataset.id in answering:
                groups.setdefault(answering[dataset.id], []).append(dataset)
        default = self._serving.defaults[question]
        found = []
        for model in sorted(groups, key=lambda model: (model != default, model.model_id)):
            live = self._indexes.of_model.get(model.model_id)
            if live is None:
                return None
            whole = {d for d, m in answering.items() if m == model} <= {d.id for d in groups[model]}
            found.append(Served(model, live, tuple(groups[model]), whole))
        return found

    def _not_indexed(self, datasets: Sequence[DatasetRecord], question: str) -> NotIndexedError:
        names = "、".join(d.name for d in datasets) or "-"
        facts: dict[str, Any] = {"datasets": [d.name for d in datasets], "question": question}
        if question == "similar":
            return NotIndexedError(
                f"Nothing is indexed yet in {names}; build the index first (futu index NAME). "
                f"尚未建立索引：{names}，请先建立索引。",
                **facts,
            )
        model = self._serving.defaults[question].name
        return NotIndexedError(
            f"There are no {question} vectors yet in {names}. Run 'futu models pull {model}' "
            f"where a compute server runs, then 'futu index NAME --questions similar,{question}'. "
            f"尚未建立 {question} 索引：{names}，请先建立索引。",
            **facts,
            model=model,
        )

    def find(
        self,
        vectors_of: VectorsOf,
        datasets: Sequence[DatasetRecord],
        question: str = "similar",
        *,
        scope: Scope | None = None,
        copies_first: bool = False,
        k: int,
        offset: int = 0,
        min_similarity: float = 0.0,
    ) -> Page:
        """The images most similar to a query; see ``Neighbours.find``.

        Where several models serve the datasets, each is searched by its own vector of the query;
        see ``Neighbours.in_turn``. What serves may change meanwhile: then this looks again, so
        that all results are from before the change or all from after it.

        Args:
            vectors_of: gives the query's vectors; asked for each model once.
            datasets: to be searched.
            question: which.
            scope: which of their images; None: all.
            copies_first: see ``Neighbours.copies_first``.
            k: how many, after ``offset`` others.
            offset: how many of the best are left out.
            min_similarity: 0-100, each by its own model.

        Raises:
            NotIndexedError: none of the datasets has anything indexed for the question.
            IndexUnavailableError: an index is not loaded yet.
        """
        scope = scope or Scope(tuple(sorted(dataset.id for dataset in datasets)))
        vectors: dict[str, Vector] = {}
        while True:
            seen = self._catalogue.model_changes
            groups = self.served(datasets, question)
            copies = self._served_copies(datasets) if copies_first else []
            page: Page | None = None
            if groups and copies is not None:
                models = [group.model for group in groups]
                also = [group.model for group in copies if group.model not in models]
                needed = [model for model in models if model.model_id not in vectors]
                if needed or any(model.model_id not in vectors for model in also):
                    vectors.update(vectors_of(needed, also))
                page = self._page(
                    groups, copies, vectors, scope, k=k, offset=offset, least=min_similarity
                )
            if self._catalogue.model_changes != seen:
                continue
            if page is not None:
                return page
            if groups == []:
                raise self._not_indexed(datasets, question)
            raise IndexUnavailableError(
                "The index is being loaded; try again in a moment.", question=question
            )

    def _served_copies(self, datasets: Sequence[DatasetRecord]) -> list[Served] | None:
        """As ``served`` for ``copy``; equal files share vectors with datasets that do not answer.

        So these are searched too, by the first of the models.
        """
        groups = self.served(datasets, "copy")
        if groups:
            there = {dataset.id for group in groups for dataset in group.datasets}
            others = tuple(dataset for dataset in datasets if dataset.id not in there)
            first = groups[0]
            groups[0] = replace(
                first,
                datasets=(*first.datasets, *others),
                whole=first.whole and not others,
            )
        return groups

    def _page(
        self,
        groups: Sequence[Served],
        copies: Sequence[Served],
        vectors: Mapping[str, Vector],
        scope: Scope,
        *,
        k: int,
        offset: int,
        least: float,
    ) -> Page:
        def asked(served: Sequence[Served]) -> list[Asked]:
            return [
                Asked(
                    group.live,
                    vectors[group.model.model_id],
                    replace(scope, dataset_ids=tuple(sorted(d.id for d in group.datasets))),
                    group.model.question,
                    whole=group.whole,
                )
                for group in served
                if group.model.model_id in vectors
            ]

        bounds: dict[str, Any] = {"k": k, "offset": offset, "min_similarity": least}
        if copies:
            return self._neighbours.copies_first(asked(copies), asked(groups), **bounds)
        return self._neighbours.in_turn(asked(groups), **bounds)
