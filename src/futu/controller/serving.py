"""Which model answers a question for a dataset, and what to do when it is not to be had."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from futu.catalogue.records import DatasetRecord, ModelRecord, ServedModels
from futu.catalogue.store import Catalogue
from futu.errors import InvalidRequestError, ModelError, NoModelError
from futu.models import registry
from futu.models.similarity import Scale
from futu.models.spec import ModelSpec, Question

log = logging.getLogger(__name__)


def record_of(spec: ModelSpec) -> ModelRecord:
    """What the catalogue keeps of a model."""
    return ModelRecord(spec.model_id, spec.name, spec.question, spec.dimension)


@dataclass(frozen=True, slots=True)
class WantedModels:
    """The models whose vectors a build makes.

    Attributes:
        serving: those that are searched; the first makes an image searchable.
        coming: those that are to take the place of one of these.
    """

    serving: tuple[ModelRecord, ...]
    coming: tuple[ModelRecord, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The model_ids, each once, the first one first."""
        return tuple(dict.fromkeys(model.model_id for model in (*self.serving, *self.coming)))


class Serving:
    """The models of datasets, as the catalogue has them.

    Args:
        catalogue: where they are recorded.
        defaults: question -> the model of datasets that have not been indexed.
        models_dir: where models of the user's own are described.
    """

    def __init__(
        self, catalogue: Catalogue, defaults: Mapping[Question, ModelSpec], models_dir: Path
    ) -> None:
        self._catalogue = catalogue
        self._models_dir = models_dir
        self.defaults: dict[str, ModelRecord] = {q: record_of(s) for q, s in defaults.items()}
        self._scales = {spec.model_id: spec.scale for spec in defaults.values()}
        self._cached: tuple[int, dict[int, dict[str, ServedModels]]] = (-1, {})

    def adopt(self, catalogue: Catalogue) -> None:
        """Give models to datasets from before they had their own; say where the default differs.

        Args:
            catalogue: the same, for who may write.
        """
        known = {model_id: record_of(spec) for model_id, spec in self._described().items()}
        known.update((model.model_id, model) for model in self.defaults.values())
        catalogue.adopt_models(known, self.defaults)
        for dataset in self._catalogue.datasets():
            for question, models in self.of(dataset).items():
                default = self.defaults[question]
                if default not in (models.serving, models.coming):
                    log.info(
                        "%s is served by %s for %s, which is not the default %s any more; to "
                        "change it: futu models use %s %s",
                        dataset.name,
                        models.serving.model_id,
                        question,
                        default.model_id,
                        dataset.name,
                        default.name,
                    )

    def of(self, dataset: DatasetRecord) -> dict[str, ServedModels]:
        """Question -> models, for the questions that a dataset answers."""
        return self._of(dataset, self._all())

    def _of(
        self, dataset: DatasetRecord, served: Mapping[int, Mapping[str, ServedModels]]
    ) -> dict[str, ServedModels]:
        own = served.get(dataset.id, {})
        return {q: own.get(q) or ServedModels(self.defaults[q]) for q in dataset.questions}

    def serving(self, dataset_id: int) -> dict[str, ModelRecord]:
        """Question -> the model that serves it, for a dataset that was indexed."""
        return {q: models.serving for q, models in self._all().get(dataset_id, {}).items()}

    def wanted(self, dataset: DatasetRecord) -> WantedModels:
        """The models whose vectors the images of a dataset are to have."""
        models = self.of(dataset).values()
        coming = tuple(m.coming for m in models if m.coming is not None)
        return WantedModels(tuple(m.serving for m in models), coming)

    def in_use(self) -> dict[str, ModelRecord]:
        """By model_id, the models that serve some dataset or are to."""
        return self._in_use(self._all())

    def in_use_now(self) -> dict[str, ModelRecord]:
        """The same as the catalogue has it, whatever has been noticed of its changes."""
        return self._in_use(self._catalogue.served())

    def _in_use(self, served: Mapping[int, Mapping[str, ServedModels]]) -> dict[str, ModelRecord]:
        return {
            model.model_id: model
            for dataset in self._catalogue.datasets()
            for models in self._of(dataset, served).values()
            for model in (models.serving, models.coming)
            if model is not None
        }

    def answering(self, question: str) -> dict[int, ModelRecord]:
        """Dataset id -> the model that serves it, where an image has its vector."""
        default = self.defaults[question]
        known = {default.model_id: default, **self._catalogue.stored_models()}
        found = self._catalogue.answering(question, default.model_id)
        return {dataset_id: known[model_id] for dataset_id, model_id in found.items()}

    def mainly(self, question: str, dataset_ids: Collection[int]) -> ModelRecord:
        """The model that serves most images of some datasets; the default one where none does.

        Where images of all of them are compared: vectors of different models cannot be.
        """
        default = self.defaults[question]
        answering, counts = self.answering(question), self._catalogue.image_counts()
        images: Counter[ModelRecord] = Counter()
        for key in dataset_ids:
            if key in answering:
                images[answering[key]] += counts.get(key, 0)
        return max(
            sorted(images, key=lambda model: model.model_id),
            key=lambda model: (images[model], model == default),
            default=default,
        )

    def scale(self, model_id: str) -> Scale:
        """What the cosines of a model mean; a plain scale when it is described nowhere any more."""
        found = self._scales.get(model_id)
        if found is None:
            spec = self._described().get(model_id)
            found = self._scales[model_id] = Scale() if spec is None else spec.scale
        return found

    def _described(self) -> dict[str, ModelSpec]:
        """By model_id, the models that are described, as they are now and as they were before."""
        now = [spec for _, spec in registry.specs(self._models_dir)]
        specs = [spec for spec in (*registry.former_specs(), *now) if isinstance(spec, ModelSpec)]
        return {spec.model_id: spec for spec in specs}

    def named(self, name: str) -> ModelRecord:
        """A model that could serve, by its name.

        Raises:
            InvalidRequestError: there is none of that name.
            ModelError: its description is wrong.
        """
        return record_of(registry.spec(name, self._models_dir))

    def in_question(self, name: str) -> ModelRecord:
        """A model in use, or a default, by its question (then the default), name or model_id.

        Raises:
            InvalidRequestError: it is none of these.
        """
        if name in self.defaults:
            return self.defaults[name]
        models = [*self.defaults.values(), *self.in_use().values()]
        for model in models:
            if name in (model.name, model.model_id):
                return model
        known = dict.fromkeys(text for m in models for text in (m.question, m.name))
        raise InvalidRequestError(
            f"The field model is {name[:80]!r}; it must be one of {', '.join(known)}: the models "
            "that the settings choose or that serve a dataset.",
            field="model",
        )

    def missing(self, model: ModelRecord) -> NoModelError:
        """What to say when compute servers run and none of them has a model."""
        facts = {"model": model.name, "model_id": model.model_id}
        start = f"No compute server has the model {model.name} ({model.model_id}), which answers "
        start += f"{model.question!r}"
        try:
            current = registry.spec(model.name, self._models_dir).model_id
        except (InvalidRequestError, ModelError):
            current = None
        if current == model.model_id:
            return NoModelError(
                f"{start}. Run 'futu models pull {model.name}' where a compute server runs, and "
                "run all with the same settings.",
                **facts,
            )
        now = f"is {current} now" if current else "is not known any more"
        datasets = [
            dataset.name
            for dataset in self._catalogue.datasets()
            if any(m.serving == model for m in self.of(dataset).values())
        ]
        of_whom = f" for {', '.join(datasets)}" if datasets else ""
        other = model.name if current else self.defaults[model.question].name
        return NoModelError(
            f"{start}{of_whom}: {model.name} {now}. Put its former description and file back where "
            f"a compute server runs, or run 'futu models use {(datasets or ['DATASET'])[0]} "
            f"{other}' and the vectors are made anew.",
            **facts,
            datasets=datasets,
        )

    def _all(self) -> dict[int, dict[str, ServedModels]]:
        changes = self._catalogue.model_changes
        if self._cached[0] != changes:
            self._cached = (changes, self._catalogue.served())
        return self._cached[1]
