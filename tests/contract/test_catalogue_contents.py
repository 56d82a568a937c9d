"""Images by content, and what was measured with a dataset, in every database."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.schema import PENDING
from futu.catalogue.store import Catalogue

MODEL = "model-1"


def content(number: int) -> bytes:
    return b"%032d" % number


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    """Three datasets: contents 0-4, 3-6 and 4; in the first the content 1 is in two files."""
    made = Catalogue(database_url)
    for name, numbers in (("one", [0, 1, 1, 2, 3, 4]), ("two", [3, 4, 5, 6]), ("three", [4])):
        dataset = made.add_dataset(name, f"/{name}")
        files = [
            ScannedFile(f"{place}.jpg", 100, 10**18, content(n), PENDING)
            for place, n in enumerate(numbers)
        ]
        made.write_files(dataset.id, files)
    vectors = np.eye(8, dtype=np.float32)
    # The content 2 is never ready.
    made.record([Outcome(content(n), {MODEL: vectors[n]}, 8, 8) for n in range(7) if n != 2], MODEL)
    yield made
    made.close()


def test_images_of_contents_are_the_searchable_ones_of_these_datasets(catalogue: Catalogue) -> None:
    found = catalogue.images_of_contents([content(n) for n in (1, 2, 4, 9)], [1, 3])
    assert {int(key): [(i.dataset, i.path) for i in images] for key, images in found.items()} == {
        1: [("one", "1.jpg"), ("one", "2.jpg")],
        4: [("one", "5.jpg"), ("three", "0.jpg")],
    }
    assert {i.content_hash for i in found[content(4)]} == {content(4)}


def test_contents_that_are_in_other_datasets_too(catalogue: Catalogue) -> None:
    assert catalogue.contents_also_in(1, [2]) == [content(3), content(4)]
    assert catalogue.contents_also_in(1, [3]) == [content(4)]
    assert catalogue.contents_also_in(2, [1, 3]) == [content(3), content(4)]
    assert catalogue.contents_also_in(2, []) == []


def test_one_image_of_each_content(catalogue: Catalogue) -> None:
    ids = catalogue.image_of_each_content(1)
    assert [catalogue.image(image_id).path for image_id in ids] == [
        "0.jpg",
        "1.jpg",
        "4.jpg",
        "5.jpg",
    ]


def test_calibration_takes_the_place_of_the_one_before(catalogue: Catalogue) -> None:
    presets = {"strict": 0.9, "normal": 0.8, "loose": 0.7}
    catalogue.keep_calibration(1, MODEL, {"presets": presets, "sample": 3})
    catalogue.keep_calibration(1, "model-2", {"presets": presets})
    catalogue.keep_calibration(2, MODEL, {"presets": presets})
    catalogue.keep_calibration(1, MODEL, {"presets": presets | {"normal": 0.85}})
    found = catalogue.calibrations([1, 2, 3], MODEL)
    assert set(found) == {1, 2}
    assert found[1].presets == presets | {"normal": 0.85}
    assert "sample" not in found[1].facts
    assert catalogue.forget_calibration(1)
    assert not catalogue.forget_calibration(1)
    assert catalogue.calibration(1, "model-2") is None
    assert catalogue.calibration(2, MODEL) is not None
