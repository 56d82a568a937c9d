"""The catalogue on each of its databases: a SQLite file, and a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from futu.catalogue.engine import open_engine
from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.schema import FAILED, PENDING, READY, Base
from futu.catalogue.store import Catalogue
from futu.errors import InvalidRequestError, UnknownDatasetError, UnknownImageError

MODEL = "model-1"


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    yield made
    made.close()


def scanned(path: str, content: bytes, state: str = PENDING) -> ScannedFile:
    return ScannedFile(path, 10, 20, content.ljust(32, b"."), state)


def good(content: bytes, value: float = 1.0) -> Outcome:
    vector = np.zeros(4, np.float32)
    vector[0] = value
    return Outcome(content.ljust(32, b"."), {MODEL: vector}, 30, 20)


def test_migrations_make_the_tables_of_the_schema(database_url: str) -> None:
    Catalogue(database_url).close()
    engine = open_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_catalogue_keeps_its_identity_when_opened_again(database_url: str) -> None:
    first = Catalogue(database_url)
    first.close()
    second = Catalogue(database_url)
    assert second.identity == first.identity
    second.close()


def test_dataset_is_found_by_name_and_by_id(catalogue: Catalogue) -> None:
    made = catalogue.add_dataset("2024", "/photos/2024")
    assert catalogue.add_dataset("2024", "/photos/2024") == made
    assert catalogue.dataset("2024") == catalogue.dataset(made.id) == made
    # A name comes before digits, but a number is an id whatever names there are.
    named = catalogue.add_dataset(str(made.id), "/photos/digits")
    assert catalogue.dataset(str(made.id)) == named
    assert catalogue.dataset(made.id) == made
    for name in ("nobody", "999999", "9" * 40):
        with pytest.raises(UnknownDatasetError):
            catalogue.dataset(name)
    with pytest.raises(InvalidRequestError):
        catalogue.add_dataset("2024", "/elsewhere")
    with pytest.raises(UnknownImageError):
        catalogue.image(5)


def test_paths_that_are_not_utf8_come_back_as_they_were(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", os.fsdecode(b"/p/\xff"))
    name = os.fsdecode(b"\xfe\xff.jpg")
    catalogue.write_files(dataset.id, [scanned(name, b"a")])
    assert list(catalogue.known_files(dataset.id, MODEL)) == [name]
    assert catalogue.dataset("d").folder == os.fsdecode(b"/p/\xff")


def test_recording_again_changes_nothing(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, [scanned("a.jpg", b"a"), scanned("b.jpg", b"b")])
    outcomes = [good(b"a"), Outcome(b"b".ljust(32, b"."), error_code="x", error="why")]
    first = catalogue.record(outcomes, MODEL)[MODEL]
    assert catalogue.record([good(b"a", -1.0)], MODEL)[MODEL] == first
    assert catalogue.record(outcomes, MODEL)[MODEL] == first
    ((ids, vectors),) = catalogue.vectors(list(first.values()))
    assert ids.tolist() == list(first.values())
    assert vectors.dtype == np.float16
    assert vectors[0].tolist() == [1, 0, 0, 0]
    known = catalogue.known_files(dataset.id, MODEL)
    assert (known["a.jpg"].state, known["b.jpg"].state) == (READY, FAILED)
    assert [(f.path, f.code, f.error) for f in catalogue.failures(dataset.id)] == [
        ("b.jpg", "x", "why")
    ]


def test_late_failure_does_not_take_back_a_vector(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, [scanned("a.jpg", b"a")])
    catalogue.record([good(b"a")], MODEL)
    catalogue.record([Outcome(b"a".ljust(32, b"."), error_code="x", error="late")], MODEL)
    assert catalogue.known_files(dataset.id, MODEL)["a.jpg"].state == READY


def test_same_content_in_two_datasets_shares_one_vector(catalogue: Catalogue) -> None:
    one, two = catalogue.add_dataset("1st", "/1"), catalogue.add_dataset("2nd", "/2")
    catalogue.write_files(one.id, [scanned("a.jpg", b"a"), scanned("copy.jpg", b"a")])
    catalogue.write_files(two.id, [scanned("b.jpg", b"a")])
    (vector_id,) = catalogue.record([good(b"a")], MODEL)[MODEL].values()
    for ids in (None, [one.id], [two.id]):
        assert catalogue.searchable_vector_ids(MODEL, ids).tolist() == [vector_id]
    assert catalogue.searchable_vector_ids("other").tolist() == []
    images = catalogue.images_of_vectors([vector_id], [one.id])[vector_id]
    assert [i.path for i in images] == ["a.jpg", "copy.jpg"]
    assert (images[0].width, images[0].height, images[0].dataset) == (30, 20, "1st")
    assert catalogue.image_counts() == {one.id: 2, two.id: 1}
    assert catalogue.first_images()[two.id].path == "b.jpg"


def test_copy_of_a_known_content_has_its_size(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, [scanned("a.jpg", b"a"), scanned("b.jpg", b"b")])
    (known,) = catalogue.record([good(b"a")], MODEL)[MODEL].values()
    catalogue.write_files(
        dataset.id, [scanned("copy.jpg", b"a", READY), scanned("b.jpg", b"a", READY)]
    )
    images = catalogue.images_of_vectors([known], [dataset.id])[known]
    sizes = {image.path: (image.width, image.height) for image in images}
    assert sizes == dict.fromkeys(["a.jpg", "b.jpg", "copy.jpg"], (30, 20))
    catalogue.write_files(dataset.id, [scanned("copy.jpg", b"c")])
    (changed,) = catalogue.record([replace(good(b"c"), width=7, height=5)], MODEL)[MODEL].values()
    (image,) = catalogue.images_of_vectors([changed], [dataset.id])[changed]
    assert (image.width, image.height) == (7, 5)


def test_missing_files_leave_searches_and_keep_their_vectors(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, [scanned("a.jpg", b"a")])
    ids = catalogue.record([good(b"a")], MODEL)[MODEL]
    known = catalogue.known_files(dataset.id, MODEL)["a.jpg"]
    before = catalogue.changes
    catalogue.mark_missing([known.id])
    assert catalogue.changes > before
    assert catalogue.searchable_vector_ids(MODEL).tolist() == []
    assert catalogue.vector_ids([b"a".ljust(32, b".")], MODEL) == ids
    catalogue.write_files(dataset.id, [scanned("a.jpg", b"a", READY)])
    assert catalogue.searchable_vector_ids(MODEL).tolist() == list(ids.values())


def test_interrupted_builds_are_found(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    first, second = (catalogue.start_build(dataset.id, MODEL) for _ in range(2))
    first.state, first.added, first.total = "done", 3, 4
    catalogue.save_build(first)
    assert [b.id for b in catalogue.interrupted_builds()] == [second.id]
    last = catalogue.last_build(dataset.id)
    assert last is not None
    assert last.id == second.id
    assert catalogue.last_build(999) is None


def test_further_vector_makes_no_image_searchable(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, [scanned("a.jpg", b"a"), scanned("b.jpg", b"b")])
    further = np.ones(2, np.float32)
    a, b = good(b"a"), replace(good(b"b"), vectors={"further": further})
    ids = catalogue.record([replace(a, vectors={**a.vectors, "further": further}), b], MODEL)
    assert {model: set(of) for model, of in ids.items()} == {
        MODEL: {a.content_hash},
        "further": {a.content_hash, b.content_hash},
    }
    known = catalogue.known_files(dataset.id, MODEL)
    assert (known["a.jpg"].state, known["b.jpg"].state) == (READY, PENDING)
    searchable = catalogue.searchable_vector_ids("further").tolist()
    assert searchable == [ids["further"][a.content_hash]]


def test_lacking_vectors_are_counted_and_datasets_that_answer_are_known(
    catalogue: Catalogue,
) -> None:
    one, two = catalogue.add_dataset("1st", "/1"), catalogue.add_dataset("2nd", "/2")
    catalogue.write_files(one.id, [scanned("a.jpg", b"a"), scanned("b.jpg", b"b")])
    catalogue.write_files(two.id, [scanned("c.jpg", b"c")])
    assert catalogue.answering(MODEL) == set()
    catalogue.record([good(b"a"), good(b"b")], MODEL)
    assert catalogue.answering(MODEL) == {one.id}
    assert (catalogue.lacking(one.id, MODEL), catalogue.lacking(one.id, "further")) == (0, 2)
    vectors = {"further": np.ones(2, np.float32)}
    catalogue.record([replace(good(b"a"), vectors=vectors)], MODEL)
    assert catalogue.lacking(one.id, "further") == 1
    assert catalogue.answering("further") == {one.id}


def test_questions_of_a_dataset_are_kept(catalogue: Catalogue) -> None:
    made = catalogue.add_dataset("d", "/d")
    assert made.questions == ("similar",)
    assert catalogue.set_questions(made.id, ["similar", "copy"])
    assert not catalogue.set_questions(made.id, ["similar", "copy"])
    assert catalogue.dataset(made.id).questions == ("similar", "copy")
    other = catalogue.add_dataset("e", "/e", ("similar", "copy"))
    assert other.questions == ("similar", "copy")
