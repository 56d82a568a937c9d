"""futu backup and futu restore: the whole catalogue in one file, made while it is in use.

A backup has its SHA-256 beside it (FILE.sha256, as sha256sum writes and checks it), and was read
again before it counts. What is restored replaces the present catalogue in one step; that one is
kept aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from futu.catalogue import dump
from futu.catalogue.archive import Progress, flush_file
from futu.catalogue.engine import parse_url, shown
from futu.catalogue.migrate import revisions
from futu.errors import BackupError

_TABLES = ("datasets", "images", "vectors")
_PAGES = 4096
_READ_BYTES = 4 * 1024**2
_SQLITE_HEADER, _DUMP_HEADER = b"SQLite format 3\0", b"PGDMP"

Counts = dict[str, int]


@dataclass(frozen=True)
class Backup:
    """A backup that was checked; ``counts`` of rows by table, unknown of an older dump."""

    path: Path
    size: int
    counts: Counts


def back_up(url: str, target: Path, progress: Progress, *, force: bool = False) -> Backup:
    """Copy a catalogue as it is at one instant; it may be written to meanwhile.

    Args:
        url: of the catalogue.
        target: the file to make.
        progress: told of pages.
        force: whether a file that is there is replaced.

    Raises:
        BackupError: there is no catalogue, no room, or what was written is not what was read.
    """
    if target.exists() and not force:
        raise BackupError(f"{target} is there already; choose another name, or give --force.")
    if not target.absolute().parent.is_dir():
        raise BackupError(f"The folder {target.absolute().parent} does not exist; make it.")
    unfinished = Path(f"{target}.part")
    try:
        if parse_url(url).get_backend_name() == "sqlite":
            counts = _copy_sqlite(Path(str(parse_url(url).database)), unfinished, progress)
        else:
            counts = dump.make(url, unfinished, _TABLES)
        checksum = _sha256(unfinished)
        flush_file(unfinished)
        # A checksum of another file would be worse than none.
        _checksum_file(target).unlink(missing_ok=True)
        os.replace(unfinished, target)
        _checksum_file(target).write_text(f"{checksum}  {target.name}\n", "utf-8")
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"The backup {target} cannot be made ({error}). Make room, or choose another place."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Backup(target, target.stat().st_size, counts)


def restore(
    url: str, source: Path, data_dir: Path, progress: Progress, *, force: bool = False
) -> Path | None:
    """Let a backup take the place of the catalogue. No controller may run.

    The restored catalogue gets an identity of its own, so that every index is made anew: one that
    was made after the backup may have other vectors under the same ids.

    Args:
        url: of the catalogue.
        source: the backup.
        data_dir: where the present catalogue of a PostgreSQL is kept.
        progress: told of bytes.
        force: whether a catalogue that has datasets is replaced.

    Returns:
        Where the replaced catalogue is kept; None when there was none.

    Raises:
        BackupError: the backup is damaged or of another kind, or the catalogue is in use or not
            empty; the present one is as it was.
    """
    to_sqlite = parse_url(url).get_backend_name() == "sqlite"
    _check_kind(source, url, to_sqlite=to_sqlite)
    _check_checksum(source, progress)
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"  # noqa: DTZ005 - a name for people here
    if to_sqlite:
        return _restore_sqlite(Path(str(parse_url(url).database)), source, stamp, force=force)
    aside = data_dir / f"catalogue-replaced-{stamp}.dump"
    keep: Callable[[], object] = lambda: back_up(url, aside, lambda *_: None)  # noqa: E731
    return aside if dump.restore(url, source, keep, force=force) else None


def _check_kind(source: Path, url: str, *, to_sqlite: bool) -> None:
    try:
        with source.open("rb") as file:
            head = file.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise BackupError(f"{source} cannot be read ({error.strerror}).") from error
    is_sqlite, is_dump = head == _SQLITE_HEADER, head.startswith(_DUMP_HEADER)
    if not is_sqlite and not is_dump:
        raise BackupError(f"{source} is no backup of Futu; futu import takes what was exported.")
    if is_sqlite != to_sqlite:
        kinds = ("SQLite", "PostgreSQL") if is_sqlite else ("PostgreSQL", "SQLite")
        raise BackupError(
            f"{source} is a backup of {kinds[0]}, and the catalogue {shown(parse_url(url))} is "
            f"{kinds[1]}. Between the two use futu export and futu import."
        )


def _check_checksum(source: Path, progress: Progress) -> None:
    beside = _checksum_file(source)
    if not beside.exists():
        raise BackupError(
            f"{beside} is missing, by which {source.name} would be checked. Copy it as well, or "
            f"make it anew if you trust the file: sha256sum {source.name} > {beside.name}"
        )
    words = beside.read_text("utf-8", "replace").split()
    if not words or _sha256(source, progress) != words[0]:
        raise BackupError(
            f"{source} is damaged: its SHA-256 is not that of {beside}. Copy it again."
        )


# --- SQLite --------------------------------------------------------------------------------


def _copy_sqlite(file: Path, target: Path, progress: Progress) -> Counts:
    if not file.is_file():
        raise BackupError(f"There is no catalogue {file}; give its --data-dir.")
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as db,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        db.isolation_level = None
        # In one transaction: what others write meanwhile is not seen, and starts nothing anew.
        db.execute("BEGIN")
        wanted = _rows_of(db)
        db.backup(copy, pages=_PAGES, progress=lambda _, left, all_: progress(all_ - left, all_))
        db.execute("COMMIT")
        copy.execute("PRAGMA journal_mode=DELETE")
    with _read_only(target) as copy:
        found = _check_sqlite(copy, target)
    if found != wanted:
        raise BackupError(f"{target} has {found}, and the catalogue has {wanted}. Try again.")
    return found


def _check_sqlite(db: sqlite3.Connection, file: Path) -> Counts:
    try:
        faults = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
        counts = _rows_of(db)
        (revision,) = db.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{file} is damaged, or no catalogue of Futu ({error}).") from error
    if faults != ["ok"]:
        raise BackupError(f"{file} is damaged: {'; '.join(faults)}. Use another backup.")
    if revision not in revisions():
        raise BackupError(
            f"{file} was made by a newer Futu (revision {revision}). Use that version."
        )
    return counts


def _restore_sqlite(file: Path, source: Path, stamp: str, *, force: bool) -> Path | None:
    with _read_only(source) as db:
        _check_sqlite(db, source)
    if file.exists() and not force and _is_used(file):
        raise BackupError(
            f"The catalogue {file} is not empty. With --force the backup takes its place; it is "
            "kept beside."
        )
    staged = file.with_name(f"{file.name}.restoring")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staged.unlink(missing_ok=True)
        with _read_only(source) as db, contextlib.closing(sqlite3.connect(staged)) as copy:
            db.backup(copy)
            copy.execute("UPDATE facts SET value = ? WHERE name = 'identity'", [uuid.uuid4().hex])
            copy.commit()
            copy.execute("PRAGMA journal_mode=DELETE")
        flush_file(staged)
        aside = _put_aside(file, stamp) if file.exists() else None
        os.replace(staged, file)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"{source} cannot be restored ({error}). The catalogue {file} is as it was."
        ) from error
    finally:
        staged.unlink(missing_ok=True)
    return aside


def _put_aside(file: Path, stamp: str) -> Path:
    """Keep a second name of the catalogue; ``file`` itself stays until it is replaced."""
    aside = file.with_name(f"{file.stem}-replaced-{stamp}{file.suffix}")
    if aside.exists():
        raise BackupError(f"{aside} is there already; try again in a second.")
    try:
        # All that is in the write-ahead log goes into the file.
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        raise  # In use, for one.
    except sqlite3.DatabaseError:
        # Damaged, which may be why it is replaced; it is kept as it is, with its log.
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{file}{end}", f"{aside}{end}")
    try:
        os.link(file, aside)
    except OSError:  # Not every file system has links.
        shutil.copy2(file, aside)
    return aside


def _is_used(file: Path) -> bool:
    with _read_only(file) as db:
        try:
            return db.execute("SELECT 1 FROM datasets LIMIT 1").fetchone() is not None
        except sqlite3.DatabaseError:
            return file.stat().st_size > 0


def _rows_of(db: sqlite3.Connection) -> Counts:
    return {
        table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  # nosec B608
        for table in _TABLES
    }


@contextlib.contextmanager
def _read_only(file: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{file.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        yield db


def _checksum_file(path: Path) -> Path:
    return Path(f"{path}.sha256")


def _sha256(path: Path, progress: Progress | None = None) -> str:
    digest, done, size = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
            done += len(data)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()
