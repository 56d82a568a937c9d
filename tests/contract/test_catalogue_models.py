"""The models of datasets in each database: what makes an image searchable, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.catalogues import FURTHER, MODEL, counts_are_right, digest, outcome, scanned

from futu.catalogue import transfer
from futu.catalogue.engine import sqlite_url
from futu.catalogue.records import ModelRecord, Outcome
from futu.catalogue.schema import PENDING, READY
from futu.catalogue.store import Catalogue
from futu.errors import NotLeadingError

FIRST = ModelRecord(MODEL, "first", "similar", 8)
SECOND = ModelRecord(FURTHER, "second", "similar", 4)


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    yield made
    made.close()


def states(catalogue: Catalogue, name: str) -> dict[str, tuple[str, int]]:
    """Path -> state and width."""
    images = catalogue.all_images(catalogue.dataset(name).id)
    return {image.path: (image.state, image.width) for image in images}


@pytest.mark.parametrize("chosen", [0, 1, 3])
def test_vectors_make_images_searchable_where_their_model_serves(
    catalogue: Catalogue, chosen: int
) -> None:
    for number, name in enumerate("abc"):
        dataset = catalogue.add_dataset(name, f"/{name}")
        catalogue.write_files(dataset.id, scanned(range(4)))
        catalogue.serve_by_default(dataset.id, [SECOND if number < chosen else FIRST])
    catalogue.record([outcome(n) for n in range(3)], MODEL)
    waits = {f"a/{n}.jpg": (PENDING, n + 1 if n < 3 else 0) for n in range(4)}
    ready = {path: (READY if width else PENDING, width) for path, (_, width) in waits.items()}
    for number, name in enumerate("abc"):
        assert states(catalogue, name) == (waits if number < chosen else ready)
    assert counts_are_right(catalogue)
    # With vectors of both models everything is.
    catalogue.record([outcome(n, further=True) for n in range(3)], MODEL)
    assert all(states(catalogue, name) == ready for name in "abc")
    assert counts_are_right(catalogue)


def test_imported_images_are_searchable_by_the_model_that_serves_here(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    other = Catalogue(sqlite_url(tmp_path / "other.db"))
    dataset = other.add_dataset("a", "/a")
    other.write_files(dataset.id, scanned(range(4)))
    other.record([outcome(n, further=n < 2) for n in range(4)], MODEL)
    file = tmp_path / "e.zip"
    transfer.export_datasets(other, [dataset], file, lambda *_: None)
    other.close()
    here = catalogue.add_dataset("a", "/a")
    catalogue.serve_by_default(here.id, [SECOND])
    transfer.import_archive(catalogue, file, lambda _, was: was, {}, lambda *_: None)
    found = {path: state for path, (state, _) in states(catalogue, "a").items()}
    assert found == {f"a/{n}.jpg": READY if n < 2 else PENDING for n in range(4)}


def test_imported_dataset_without_a_model_gets_the_one_of_most_of_its_vectors(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    other = Catalogue(sqlite_url(tmp_path / "other.db"))
    dataset = other.add_dataset("a", "/a")
    other.write_files(dataset.id, scanned(range(4)))
    vectors = [outcome(n, further=True).vectors for n in range(4)]
    kept = [{FURTHER: v[FURTHER]} if n < 3 else v for n, v in enumerate(vectors)]
    other.serve_by_default(dataset.id, [SECOND])
    other.record([Outcome(digest(n), v, 1, 2) for n, v in enumerate(kept)], MODEL)
    file = tmp_path / "e.zip"
    transfer.export_datasets(other, [dataset], file, lambda *_: None)
    other.close()
    transfer.import_archive(catalogue, file, lambda _, was: was, {}, lambda *_: None)
    known = {model.model_id: model for model in (FIRST, SECOND)}
    catalogue.adopt_models(known, {"similar": FIRST})
    here = catalogue.dataset("a")
    assert catalogue.served()[here.id]["similar"].serving == SECOND
    assert {state for state, _ in states(catalogue, "a").values()} == {READY}


def test_change_of_models_in_a_term_is_heard_by_all_views_and_refused_when_it_is_over(
    postgresql: Callable[[], str],
) -> None:
    catalogue = Catalogue(postgresql())
    dataset = catalogue.add_dataset("a", "/a")
    leading = catalogue.under(catalogue.begin_term())
    before = catalogue.model_changes
    leading.serve_by_default(dataset.id, [FIRST])
    assert catalogue.model_changes == leading.model_changes != before
    catalogue.begin_term()
    with pytest.raises(NotLeadingError):
        leading.choose_model(dataset.id, SECOND)
    assert catalogue.served()[dataset.id]["similar"].serving == FIRST
    catalogue.close()
