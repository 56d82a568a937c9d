"""What the REST API says of the models of datasets, for ``futu.client``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModel:
    """A model of a dataset; while it is coming, how many images have its vectors."""

    model_id: str
    name: str
    progress: int = 0
    current: int = 0
    total: int = 0
    building: bool = False


@dataclass(frozen=True)
class ServedModels:
    """The models of a dataset for a question: searched; to be searched; searched before."""

    serving: ServedModel
    coming: ServedModel | None = None
    former: ServedModel | None = None


@dataclass(frozen=True)
class ModelChange:
    """What came of asking for another model."""

    dataset: str
    question: str
    models: ServedModels
    message: str


@dataclass(frozen=True)
class Pruned:
    """What was removed: vectors, their bytes, and the models that have none left."""

    vectors: int
    bytes: int
    model_ids: tuple[str, ...]
