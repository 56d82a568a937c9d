"""What a search asks of the catalogue, in every database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from futu.catalogue.records import Outcome, ScannedFile, Scope
from futu.catalogue.schema import PENDING
from futu.catalogue.store import Catalogue

MODEL = "model-1"


def content(number: int) -> bytes:
    return b"%032d" % number


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    """Two datasets of 20 images of the same contents; the last five have no vector."""
    made = Catalogue(database_url)
    for name in ("one", "two"):
        dataset = made.add_dataset(name, f"/{name}")
        files = [
            ScannedFile(f"{n % 3}é/{n:02}.jpg", 100 + n, 10**18 + n, content(n), PENDING)
            for n in range(20)
        ]
        made.write_files(dataset.id, files)
    vectors = np.eye(20, dtype=np.float32)
    made.record([Outcome(content(n), {MODEL: vectors[n]}, n, 2 * n) for n in range(15)], MODEL)
    yield made
    made.close()


def contents(catalogue: Catalogue, ids: Any) -> set[int]:
    found = catalogue.images_of_vectors(ids.tolist(), [1, 2])
    return {int(image.content_hash or b"-1") for same in found.values() for image in same}


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({}, set(range(15))),
        ({"path_prefix": "1é/"}, {1, 4, 7, 10, 13}),
        ({"path_prefix": "1"}, {1, 4, 7, 10, 13}),
        ({"path_prefix": "é"}, set()),
        ({"after_ns": 10**18 + 12}, {12, 13, 14}),
        ({"after_ns": 10**18 + 3, "before_ns": 10**18 + 5}, {3, 4}),
        ({"min_size": 113}, {13, 14}),
        ({"max_size": 101}, {0, 1}),
        ({"min_width": 13, "max_height": 26}, {13}),
        ({"path_prefix": "2é/", "before_ns": 10**18 + 9, "min_height": 5}, {5, 8}),
    ],
)
def test_vectors_in_a_scope_are_those_of_its_searchable_images(
    catalogue: Catalogue, bounds: dict[str, Any], wanted: set[int]
) -> None:
    for datasets in ((1,), (1, 2)):
        scope = Scope(datasets, **bounds)
        ids = catalogue.vector_ids_in(scope, MODEL)
        assert ids is not None
        assert sorted(set(ids.tolist())) == ids.tolist()
        assert contents(catalogue, ids) == wanted
        images = len(wanted) * len(datasets)
        assert catalogue.vector_ids_in(scope, MODEL, most=images) is not None
        if images:
            assert catalogue.vector_ids_in(scope, MODEL, most=images - 1) is None
    assert catalogue.vector_ids_in(Scope((3,), **bounds), MODEL) is not None


def test_image_is_found_by_content_and_by_path_and_its_vector_by_content(
    catalogue: Catalogue,
) -> None:
    image = catalogue.image_of_content(content(4))
    assert image is not None
    assert (image.dataset, image.path) == ("one", "1é/04.jpg")
    assert catalogue.image_at(1, "1é/04.jpg") == image == catalogue.image(image.id)
    vector = catalogue.vector_of_content(content(4), MODEL)
    assert vector is not None
    assert vector.dtype == np.float16
    assert vector.tolist() == np.eye(20)[4].tolist()
    assert catalogue.image_at(1, "1é/99.jpg") is None
    # It has no vector, so it is not searchable; the other is not of this model.
    assert catalogue.image_of_content(content(17)) is None
    assert catalogue.vector_of_content(content(4), "other") is None


def test_read_sees_what_another_has_written_since(catalogue: Catalogue, database_url: str) -> None:
    assert catalogue.image_at(1, "new.jpg") is None
    other = Catalogue(database_url)
    other.write_files(1, [ScannedFile("new.jpg", 1, 1, content(50), PENDING)])
    other.close()
    assert catalogue.image_at(1, "new.jpg") is not None
