"""What the database itself holds on to, whoever writes to it, and through every migration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.catalogues import MODEL, counts_are_right, digest, everything, fill, outcome, scanned

from futu.catalogue import engine, migrate
from futu.catalogue.engine import open_engine
from futu.catalogue.records import Outcome, ScannedFile
from futu.catalogue.schema import FAILED, MISSING, READY
from futu.catalogue.store import Catalogue
from futu.errors import CatalogueUnavailableError, SettingsError


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    yield made
    made.close()


def migrated(url: str, revision: str, *statements: str) -> None:
    """Bring a database to a revision, up or down, and then execute statements."""
    engine = open_engine(url)
    config = migrate.migration_config()
    with migrate.migrating(engine) as db:
        config.attributes["connection"] = db
        there = db.dialect.has_table(db, "image_counts")
        (command.downgrade if there else command.upgrade)(config, revision)
    with engine.begin() as db:
        for statement in statements:
            db.execute(text(statement))
    engine.dispose()


RELEASED = ("0001", "0002", "0003", "0007", "0004", "0006")
"""Revisions that catalogues of users may have, in their order. Only ever added to."""


def test_revisions_that_were_released_are_known_for_ever_and_in_their_order() -> None:
    assert migrate.revisions()[: len(RELEASED)] == RELEASED


@pytest.mark.parametrize("revision", RELEASED[3:])
def test_catalogue_of_a_released_version_is_opened_with_all_that_is_in_it(
    database_url: str, revision: str
) -> None:
    made = Catalogue(database_url)
    fill(made)
    before = made.image_counts(), [d.name for d in made.datasets()], made.stored_vector_models()
    made.close()
    migrated(database_url, revision)
    opened = Catalogue(database_url)
    after = (
        opened.image_counts(),
        [d.name for d in opened.datasets()],
        opened.stored_vector_models(),
    )
    assert after == before
    assert counts_are_right(opened)
    opened.close()


def test_counts_follow_every_change(catalogue: Catalogue) -> None:
    fill(catalogue)
    assert counts_are_right(catalogue)
    one = catalogue.dataset("one")
    before = catalogue.image_counts()[one.id]
    catalogue.write_files(one.id, [ScannedFile("a/2.jpg", 9, 9, None, FAILED, "x", "y")])
    assert catalogue.image_counts()[one.id] == before - 1
    with catalogue.write() as db:
        db.execute(text("DELETE FROM images WHERE state = 'failed'"))
        db.execute(text("UPDATE images SET size = size + 1"))
    assert counts_are_right(catalogue)
    with catalogue.write() as db:
        db.execute(text("DELETE FROM images"))
    assert counts_are_right(catalogue)
    assert catalogue.image_counts() == {}
    assert catalogue.first_images() == {}
    assert catalogue.unfinished_datasets() == []


def test_change_that_is_rolled_back_is_not_counted(catalogue: Catalogue) -> None:
    fill(catalogue)
    before = catalogue.image_counts()
    with pytest.raises(IntegrityError), catalogue.write() as db:
        db.execute(text("UPDATE images SET state = CASE id WHEN 1 THEN 'failed' END"))
    assert catalogue.image_counts() == before
    assert counts_are_right(catalogue)


def test_counts_are_made_again_when_a_trigger_is_lacking(
    catalogue: Catalogue, database_url: str
) -> None:
    fill(catalogue)
    on = "" if database_url.startswith("sqlite") else " ON images"
    with catalogue.write() as db:
        db.exec_driver_sql(f"DROP TRIGGER count_deleted_images{on}")
        db.execute(text("DELETE FROM images WHERE state = 'ready'"))
    assert not counts_are_right(catalogue)
    again = Catalogue(database_url)
    assert counts_are_right(again)
    with again.write() as db:
        db.execute(text("DELETE FROM images WHERE state = 'pending'"))
    assert counts_are_right(again)
    again.close()


def test_dataset_never_has_two_builds_under_way(catalogue: Catalogue, database_url: str) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    others = [Catalogue(database_url) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        for made in [pool.submit(c.start_build, dataset.id, MODEL) for c in others * 3]:
            made.result()
    (left,) = catalogue.interrupted_builds()
    assert left.id == max(build.id for build in catalogue.builds())
    with pytest.raises(IntegrityError), catalogue.write() as db:
        db.execute(text("UPDATE builds SET state = 'building'"))
    for other in others:
        other.close()


def test_writers_on_the_same_rows_do_not_disturb_each_other(
    catalogue: Catalogue, database_url: str
) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    numbers = range(60)
    others = [Catalogue(database_url) for _ in range(3)]

    def work(which: int) -> None:
        # Each in another order, so that locks taken row by row would cross.
        mine = list(numbers)[:: (1, -1, 1)[which]]
        for number in mine:
            one = range(number, number + 1)
            others[which].write_files(dataset.id, scanned(one))
        for start in range(0, len(mine), 10):
            others[which].record([outcome(n) for n in mine[start : start + 10]], MODEL)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, which) for which in range(3)]:
            done.result()
    assert len(everything(catalogue)["vectors"]) == len(numbers)
    assert len(catalogue.searchable_vector_ids(MODEL)) <= len(numbers)
    assert counts_are_right(catalogue)
    for other in others:
        other.close()


def test_what_a_writer_has_read_stays_so_until_it_commits(
    catalogue: Catalogue, database_url: str
) -> None:
    with catalogue.write() as db:
        db.execute(text("INSERT INTO facts (name, value) VALUES ('n', '0')"))
    others = [Catalogue(database_url) for _ in range(3)]

    def count(mine: Catalogue) -> None:
        for _ in range(20):
            with mine.write() as db:
                value = int(db.scalar(text("SELECT value FROM facts WHERE name = 'n'")) or 0)
                db.execute(text(f"UPDATE facts SET value = '{value + 1}' WHERE name = 'n'"))

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(count, other) for other in others]:
            done.result()
    with catalogue.read() as db:
        assert db.scalar(text("SELECT value FROM facts WHERE name = 'n'")) == "60"
    for other in others:
        other.close()


def test_a_read_sees_one_state(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    count = text("SELECT count(*) FROM images")
    with catalogue.read() as db:
        assert db.scalar(count) == 0
        catalogue.write_files(dataset.id, scanned(range(3)))
        assert db.scalar(count) == 0
    with catalogue.read() as db:
        assert db.scalar(count) == 3


def test_text_that_is_no_text_is_stored_readably(catalogue: Catalogue) -> None:
    dataset = catalogue.add_dataset("d", "/d")
    catalogue.write_files(dataset.id, scanned(range(1)))
    catalogue.record([Outcome(digest(0), error_code="x", error="a\0b\udcff")], MODEL)
    (failure,) = catalogue.failures(dataset.id)
    assert failure.error == "a\ufffdb?"


def test_images_are_listed_in_pages_that_miss_none(catalogue: Catalogue) -> None:
    fill(catalogue)
    for name in ("one", "zwei"):
        dataset = catalogue.dataset(name)
        listed = [image.path for image in catalogue.all_images(dataset.id, page=7)]
        assert listed == [i.path for i in catalogue.list_images(dataset.id, limit=1000)]
        assert set(listed) == set(catalogue.known_files(dataset.id, MODEL))
        assert catalogue.list_images(dataset.id, listed[-1]) == []
    assert {i.state for i in catalogue.all_images(catalogue.dataset("one").id)} == {READY, MISSING}


def test_old_catalogue_is_migrated_with_what_it_has(database_url: str, tmp_path: Path) -> None:
    binary = "BLOB" if database_url.startswith("sqlite") else "BYTEA"
    when = "'2024-01-01 00:00:00'"
    build = (
        "INSERT INTO builds (dataset_id, model_id, state, total, added, unchanged, reused, failed, "
        f"missing, message, started_at) VALUES (1, 'm', 'building', 0, 0, 0, 0, 0, 0, '', {when})"
    )
    migrated(
        database_url,
        "0001",
        "INSERT INTO datasets (name, folder, description, created_at) "
        f"VALUES ('d', CAST('f' AS {binary}), '', {when})",
        "INSERT INTO images (dataset_id, path, size, mtime_ns, state, width, height, added_at) "
        f"VALUES (1, CAST('p' AS {binary}), 1, 2, 'ready', 3, 4, {when}), "
        f"(1, CAST('q' AS {binary}), 1, 2, 'pending', 3, 4, {when})",
        build,
        build,
    )
    catalogue = Catalogue(database_url)
    (dataset,) = catalogue.datasets()
    assert catalogue.image_counts() == {dataset.id: 1}
    assert catalogue.first_images()[dataset.id].path == "p"
    assert catalogue.unfinished_datasets() == [dataset.id]
    assert len(catalogue.interrupted_builds()) == 1
    assert counts_are_right(catalogue)
    catalogue.close()
    if database_url.startswith("sqlite"):
        kept = Catalogue(f"sqlite:///{tmp_path / 'catalogue.0001.bak'}")
        assert len(kept.interrupted_builds()) == 1
        kept.close()


def test_migrations_can_be_taken_back(database_url: str) -> None:
    catalogue = Catalogue(database_url)
    fill(catalogue)
    before = everything(catalogue)
    catalogue.close()
    migrated(database_url, "0001")
    again = Catalogue(database_url)
    assert counts_are_right(again)
    # What the oldest tables had no room for is as it is by default.
    assert [row[3:] for row in everything(again)["images"]] == [r[3:] for r in before["images"]]
    again.close()
    migrated(database_url, "base")
    engine = open_engine(database_url)
    with engine.connect() as db:
        tables = db.dialect.get_table_names(db)
    assert [name for name in tables if name != "alembic_version"] == []
    engine.dispose()


def test_catalogue_of_a_newer_version_is_refused(database_url: str) -> None:
    Catalogue(database_url).close()
    engine = open_engine(database_url)
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=r"newer Futu \(revision 9999; this one knows up to"):
        Catalogue(database_url)
    engine.dispose()


def test_database_that_is_gone_is_said_to_be_so(catalogue: Catalogue, database_url: str) -> None:
    with catalogue.write() as db:
        db.execute(text("ALTER TABLE datasets RENAME TO gone"))
    if database_url.startswith("sqlite"):
        with pytest.raises(CatalogueUnavailableError, match="cannot be used now"):
            catalogue.datasets()
        return
    name = database_url.partition("?")[0].rpartition("/")[2]
    admin = open_engine(database_url.replace(name, "postgres"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    with pytest.raises(CatalogueUnavailableError, match="cannot be used now"):
        catalogue.datasets()
    with pytest.raises(SettingsError, match="cannot be reached"):
        Catalogue(database_url)
    admin.dispose()


def test_writer_that_does_nothing_for_long_loses_its_transaction(
    postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql()
    Catalogue(url).close()  # a busy machine may take longer between two steps of a migration
    monkeypatch.setattr(engine, "_IDLE_TIMEOUT_MS", 100)
    suspended, other = Catalogue(url), Catalogue(url)

    def write_slowly() -> None:
        with suspended.write() as db, ThreadPoolExecutor() as pool:
            # It waits until the other one has written, which waits for it.
            pool.submit(other.add_dataset, "d", "/d").result()
            db.execute(text("SELECT 1"))

    with suspended.read() as reading:
        assert reading.scalar(text("SELECT count(*) FROM datasets")) == 0
        with pytest.raises(CatalogueUnavailableError, match="cannot be used now"):
            write_slowly()
        assert reading.scalar(text("SELECT count(*) FROM datasets")) == 0
    assert [dataset.name for dataset in suspended.datasets()] == ["d"]
    suspended.close()
    other.close()
