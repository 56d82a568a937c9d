"""What the tests of changing models share: a dataset with vectors of one model, and two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tests.integration.conftest import Site, by_model, vector_of
from tests.pictures import jpeg

from futu.catalogue.records import DatasetRecord, ServedModels
from futu.catalogue.schema import DONE
from futu.controller.neighbours import Page
from futu.controller.serving import record_of
from futu.images.folder import hash_bytes
from futu.models.registry import spec
from futu.models.spec import ModelSpec

OLD, NEW, COPY = spec("efficientnet-lite0"), spec("efficientnet-lite2"), spec("sscd-distilled")
PICTURES = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(5)}


def indexed(site: Site, name: str = "one", pictures: dict[str, bytes] = PICTURES) -> DatasetRecord:
    """A dataset whose images have their vectors, by a server that has gone."""
    server = site.serve_models("first", OLD)
    dataset = site.fill(name, pictures)
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    server.stop()
    return dataset


def switch(site: Site, dataset: DatasetRecord, model: ModelSpec) -> None:
    """Ask for a model and do not wait."""
    site.controller.switch.use(dataset, record_of(model))


def switched(site: Site, dataset: DatasetRecord, model: ModelSpec) -> dict[str, Any]:
    """Ask for a model and wait for the end of the build."""
    switch(site, dataset, model)
    return site.await_state(dataset, DONE)


def models(site: Site, dataset: DatasetRecord, question: str = "similar") -> ServedModels:
    return site.controller.serving.of(site.controller.dataset(dataset.name))[question]


def names(served: ServedModels) -> tuple[str | None, ...]:
    """Of the models that serve, come and have served."""
    of = (served.serving, served.coming, served.former)
    return tuple(None if model is None else model.name for model in of)


def in_memory(site: Site) -> dict[str, int]:
    """model_id -> vectors in its index, for the indexes in memory."""
    return {key: len(live.index) for key, live in site.controller.indexes.of_model.items()}


def search(
    site: Site,
    picture: bytes,
    datasets: Sequence[DatasetRecord] | None = None,
    question: str = "similar",
    **given: Any,
) -> Page:
    """Search with a picture; its vectors are as the played compute servers make them."""
    chosen = site.controller.catalogue.datasets() if datasets is None else datasets
    digest = hash_bytes(picture)
    return site.controller.search.find(
        by_model(
            lambda model: np.frombuffer(vector_of(digest, model.dimension, model.model_id), "<f4")
        ),
        chosen,
        question,
        **{"k": 100, **given},
    )


def assert_served(
    site: Site, dataset: DatasetRecord, model: ModelSpec, pictures: dict[str, bytes] = PICTURES
) -> None:
    """Searches find all pictures, each itself first, by the vectors of this model and no other."""
    for path, data in pictures.items():
        found = search(site, data, [dataset], model.question)
        assert found.model_ids == (model.model_id,)
        assert {n.image.path for n in found.neighbours} == set(pictures)
        first = found.neighbours[0]
        assert (first.image.path, first.similarity) == (path, 100)
        assert {n.model_id for n in found.neighbours} == {model.model_id}
