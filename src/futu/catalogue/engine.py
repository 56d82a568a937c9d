"""Opening the catalogue's database and bringing its tables up to date."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

_BUSY_TIMEOUT_MS = 30_000


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def open_engine(url: str, *, pooled: bool = True) -> Engine:
    """Connect; SQLite gets a write-ahead log, so that searches read while a build writes.

    Args:
        url: SQLAlchemy URL.
        pooled: whether connections are kept for others when they are closed.
    """
    engine = create_engine(url) if pooled else create_engine(url, poolclass=NullPool)
    if make_url(url).get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling is switched off; SQLAlchemy begins and commits.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # With a write-ahead log NORMAL survives any crash of ours; a power cut may lose the last
    # commits, which the next scan finds again, but never damages the file.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A write transaction takes its lock at once: one that began as a read and then writes
    # fails without waiting when another has written in between.
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return  # each statement sees the newest state
    writes = options.get("futu_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migration_config() -> Config:
    """Alembic's configuration, with the scripts of this package."""
    config = Config()
    folder = importlib.resources.files("futu.catalogue") / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest revision."""
    config = migration_config()
    with engine.connect().execution_options(futu_writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
