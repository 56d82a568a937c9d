"""futu backup and futu restore of a catalogue in each database."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.catalogues import MODEL, counts_are_right, everything, fill, outcome, scanned

from futu.catalogue import backup, dump
from futu.catalogue.backup import back_up, restore
from futu.catalogue.engine import sqlite_url
from futu.catalogue.store import Catalogue
from futu.errors import BackupError


@pytest.fixture(autouse=True)
def programs_on_the_path(monkeypatch: pytest.MonkeyPatch, postgresql_programs: Path) -> None:
    monkeypatch.setenv("PATH", f"{postgresql_programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    made = Catalogue(database_url)
    fill(made)
    yield made
    made.close()


def silent(_done: int, _of: int) -> None:
    pass


def reopened(url: str) -> tuple[str, dict[str, object]]:
    """Identity and contents of a catalogue, opened for a moment."""
    catalogue = Catalogue(url)
    assert counts_are_right(catalogue)
    found = catalogue.identity, everything(catalogue)
    catalogue.close()
    return found


def test_backup_and_restore_bring_back_what_there_was(
    catalogue: Catalogue, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    made = back_up(database_url, file, silent)
    before, identity = everything(catalogue), catalogue.identity
    assert made.counts == {"datasets": 2, "images": 77, "vectors": len(before["vectors"])}
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (tmp_path / "backup.sha256").read_text() == f"{checksum}  backup\n"
    catalogue.write_files(catalogue.dataset("one").id, scanned(range(900, 910)))
    later = everything(catalogue)
    catalogue.close()
    with pytest.raises(BackupError, match="is not empty"):
        restore(database_url, file, tmp_path, silent)
    assert reopened(database_url)[1] == later
    aside = restore(database_url, file, tmp_path, silent, force=True)
    found = reopened(database_url)
    assert found[1] == before
    # An index of later must not be taken for one of this catalogue.
    assert found[0] != identity
    assert aside is not None
    if database_url.startswith("sqlite"):
        assert reopened(sqlite_url(aside))[1] == later
    else:
        restore(database_url, aside, tmp_path / "..", silent, force=True)
        assert reopened(database_url)[1] == later


def test_backup_goes_into_an_empty_place(
    catalogue: Catalogue, database_url: str, tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    back_up(database_url, tmp_path / "backup", silent)
    sqlite = database_url.startswith("sqlite")
    empty = sqlite_url(tmp_path / "new" / "catalogue.db") if sqlite else postgresql()
    assert restore(empty, tmp_path / "backup", tmp_path, silent) is None
    assert reopened(empty)[1] == everything(catalogue)


def test_backup_under_writes_is_of_one_instant(
    catalogue: Catalogue, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PAGES", 1)
    one = catalogue.dataset("one").id
    stop, number = threading.Event(), 1000

    def write() -> None:
        nonlocal number
        while not stop.is_set():
            catalogue.write_files(one, scanned(range(number, number + 5)))
            catalogue.record([outcome(n) for n in range(number, number + 5)], MODEL)
            number += 5

    writer = threading.Thread(target=write)
    writer.start()
    while number < 1010:
        stop.wait(0.001)
    try:
        made = back_up(database_url, tmp_path / "backup", silent)
        during = number
        while number < during + 10:
            stop.wait(0.001)
    finally:
        stop.set()
        writer.join()
    catalogue.close()
    restore(database_url, tmp_path / "backup", tmp_path, silent, force=True)
    again = Catalogue(database_url)
    assert counts_are_right(again)
    new = [i for i in again.all_images(one) if int(i.path[2:-4] or 0) >= 1000 and i.path[0] == "a"]
    assert 10 <= len(new) < number - 1000
    assert len(everything(again)["images"]) == made.counts["images"]
    # A batch is pending or ready, never half of it.
    states = [i.state for i in sorted(new, key=lambda i: int(i.path[2:-4]))]
    assert all(len(set(states[k : k + 5])) == 1 for k in range(0, len(states), 5))
    again.close()


def test_place_that_is_taken_or_missing_is_refused(
    catalogue: Catalogue, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    file.write_text("old")
    with pytest.raises(BackupError, match="is there already"):
        back_up(database_url, file, silent)
    assert file.read_text() == "old"
    back_up(database_url, file, silent, force=True)
    assert file.read_bytes()[:6] in (b"SQLite", b"PGDMP\x01")
    with pytest.raises(BackupError, match="does not exist; make it"):
        back_up(database_url, tmp_path / "no" / "backup", silent)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def be_a_text(file: Path) -> None:
    file.write_text("I am no backup.")


def lose_the_checksum(file: Path) -> None:
    Path(f"{file}.sha256").unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut_off, "is damaged: its SHA-256"),
        (flip_a_bit, "is damaged: its SHA-256"),
        (be_a_text, "is no backup of Futu"),
        (lose_the_checksum, "sha256 is missing"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_damaged_backup_is_refused_and_the_catalogue_stays(
    catalogue: Catalogue,
    database_url: str,
    tmp_path: Path,
    harm: Callable[[Path], None],
    said: str,
) -> None:
    file = tmp_path / "backup"
    back_up(database_url, file, silent)
    before = everything(catalogue)
    catalogue.close()
    harm(file)
    with pytest.raises(BackupError, match=said):
        restore(database_url, file, tmp_path, silent, force=True)
    assert reopened(database_url)[1] == before
    assert not list(tmp_path.glob("*replaced*"))


def resealed(file: Path) -> None:
    """Let a file have a checksum that fits."""
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    Path(f"{file}.sha256").write_text(f"{checksum}  {file.name}\n")


def test_backup_that_was_cut_off_before_its_checksum_was_made_is_refused(
    catalogue: Catalogue, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    back_up(database_url, file, silent)
    before = everything(catalogue)
    catalogue.close()
    cut_off(file)
    resealed(file)
    with pytest.raises(BackupError, match=r"damaged|failed"):
        restore(database_url, file, tmp_path, silent, force=True)
    assert reopened(database_url)[1] == before


def test_page_that_was_damaged_before_the_checksum_was_made_is_found(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "c.db")
    made = Catalogue(url)
    fill(made)
    made.close()
    file = tmp_path / "backup"
    back_up(url, file, silent)
    with contextlib.closing(sqlite3.connect(file)) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_images_content_hash'"
        (page,) = db.execute(query).fetchone()
    data = bytearray(file.read_bytes())
    data[(page - 1) * 4096] ^= 0xFF
    file.write_bytes(data)
    resealed(file)
    with pytest.raises(BackupError, match="is damaged"):
        restore(url, file, tmp_path, silent, force=True)


def test_backup_of_a_newer_version_or_another_database_is_refused(
    tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    url = sqlite_url(tmp_path / "c.db")
    made = Catalogue(url)
    fill(made)
    made.close()
    back_up(url, tmp_path / "backup", silent)
    with pytest.raises(BackupError, match=r"a backup of SQLite, .* use futu export"):
        restore(postgresql(), tmp_path / "backup", tmp_path, silent)
    with sqlite3.connect(tmp_path / "backup") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    resealed(tmp_path / "backup")
    with pytest.raises(BackupError, match="made by a newer Futu"):
        restore(url, tmp_path / "backup", tmp_path, silent, force=True)
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    resealed(tmp_path / "other.db")
    with pytest.raises(BackupError, match="no catalogue of Futu"):
        restore(url, tmp_path / "other.db", tmp_path, silent, force=True)


def test_damaged_catalogue_is_kept_aside_when_a_backup_replaces_it(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.db"
    url = sqlite_url(file)
    made = Catalogue(url)
    fill(made)
    before = everything(made)
    back_up(url, tmp_path / "backup", silent)
    made.close()
    file.write_bytes(b"not a database any more" * 1000)
    with pytest.raises(BackupError, match="is not empty"):
        restore(url, tmp_path / "backup", tmp_path, silent)
    aside = restore(url, tmp_path / "backup", tmp_path, silent, force=True)
    assert reopened(url)[1] == before
    assert aside is not None
    assert aside.read_bytes().startswith(b"not a database any more")


def test_catalogue_that_a_controller_has_open_is_not_replaced(
    postgresql: Callable[[], str], tmp_path: Path
) -> None:
    url = postgresql()
    running = Catalogue(url)
    fill(running)
    back_up(url, tmp_path / "backup", silent)
    with pytest.raises(BackupError, match="A controller is using"):
        restore(url, tmp_path / "backup", tmp_path, silent, force=True)
    running.close()
    assert restore(url, tmp_path / "backup", tmp_path, silent, force=True) is not None


def test_programs_that_are_missing_are_named(
    postgresql: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql()
    Catalogue(url).close()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match=r"pg_dump is not installed.*postgresql-client"):
        back_up(url, tmp_path / "backup", silent)
    assert list(tmp_path.iterdir()) == []


def test_restore_that_fails_half_way_leaves_the_catalogue_as_it_was(
    postgresql: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql()
    made = Catalogue(url)
    fill(made)
    before = everything(made)
    back_up(url, tmp_path / "backup", silent)
    made.close()
    # As if the dump ended within its second table, after the first look at it.
    data = (tmp_path / "backup").read_bytes()
    monkeypatch.setattr(dump, "_run", lambda *_: None)
    monkeypatch.setattr(backup, "back_up", lambda *_: None)
    (tmp_path / "backup").write_bytes(data[: len(data) - len(data) // 4])
    resealed(tmp_path / "backup")
    with pytest.raises(BackupError, match="failed"):
        restore(url, tmp_path / "backup", tmp_path, silent, force=True)
    assert reopened(url)[1] == before
