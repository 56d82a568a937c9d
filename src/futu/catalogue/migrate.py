"""Bringing the tables of a catalogue up to date."""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from futu.catalogue import counts
from futu.catalogue.engine import check_server, file_of, shown
from futu.errors import SettingsError

log = logging.getLogger(__name__)


def migration_config() -> Config:
    """Alembic's configuration, with the scripts of this package."""
    config = Config()
    folder = importlib.resources.files("futu.catalogue") / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


@functools.cache
def revisions() -> tuple[str, ...]:
    """All revisions, oldest first."""
    script = ScriptDirectory.from_config(migration_config())
    return tuple(revision.revision for revision in script.walk_revisions())[::-1]


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest revision; a SQLite file is copied beside itself before.

    Raises:
        SettingsError: the database does not answer, or a newer Futu has migrated it.
    """
    check_server(engine)
    known = revisions()
    with engine.connect() as db:
        revision = _revision_in(db, known, engine)
    file = file_of(engine)
    if file is not None and revision not in (None, known[-1]):
        _keep_copy(file, str(revision))
    with migrating(engine) as db:
        if _revision_in(db, known, engine) != known[-1]:
            config = migration_config()
            config.attributes["connection"] = db
            command.upgrade(config, "head")
        counts.install(db)


def check_revision(engine: Engine) -> tuple[str | None, str]:
    """The revision of a catalogue (None: it has no tables) and the newest one; changes nothing.

    Raises:
        SettingsError: the database does not answer, or a newer Futu has migrated it.
    """
    check_server(engine)
    known = revisions()
    with engine.connect() as db:
        return _revision_in(db, known, engine), known[-1]


@contextlib.contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A transaction for changes to the tables; alone among writers."""
    with engine.connect().execution_options(futu_writes=True) as db:
        file = file_of(engine)
        # SQLite makes some changes by a new table, for which the old one is dropped. References
        # cannot be let off inside a transaction.
        raw: Any = db.connection.dbapi_connection
        if file is not None:
            raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with db.begin():
                yield db
                broken = file and db.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken:
                    raise SettingsError(
                        f"The catalogue {file} cannot be migrated: a row of {broken[0]} refers to "
                        "nothing. Restore a backup with futu restore."
                    )
        finally:
            if file is not None:
                raw.execute("PRAGMA foreign_keys=ON")


def _revision_in(db: Connection, known: tuple[str, ...], engine: Engine) -> str | None:
    revision = MigrationContext.configure(db).get_current_revision()
    if revision is not None and revision not in known:
        raise SettingsError(
            f"The catalogue {shown(engine.url)} was made by a newer Futu (revision {revision}; "
            f"this one knows up to {known[-1]}). Run that version, or restore an older backup."
        )
    return revision


def _keep_copy(file: Path, revision: str) -> None:
    """Copy a SQLite database to <name>.<revision>.bak, as of its last commit."""
    copy = file.with_name(f"{file.stem}.{revision}.bak")
    unfinished = Path(f"{copy}.part")
    unfinished.unlink(missing_ok=True)
    try:
        with (
            contextlib.closing(sqlite3.connect(file)) as source,
            contextlib.closing(sqlite3.connect(unfinished)) as target,
        ):
            source.backup(target)
        os.replace(unfinished, copy)
    except (OSError, sqlite3.Error) as error:
        unfinished.unlink(missing_ok=True)
        raise SettingsError(
            f"The catalogue {file} has to be migrated, and could not be copied to {copy} before "
            f"({error}). Make room, or mend the permissions of the folder."
        ) from error
    log.info("the catalogue is migrated from revision %s; its copy is %s", revision, copy)
