"""Opening the catalogue's database: a SQLite file, or PostgreSQL."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from futu.errors import SettingsError

PROGRAM = "futu"
"""The name under which PostgreSQL lists connections of controllers."""

_BUSY_TIMEOUT_MS = 30_000
# A process that is suspended or cut off in the middle of a transaction must not keep its locks.
_IDLE_TIMEOUT_MS = 30_000
_CONNECTIONS = 32
_WRITER = 0x66757475
"""The advisory lock of writers; any number will do, as long as all have the same."""


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def catalogue_url(given: str, data_dir: Path) -> str:
    """The URL of the catalogue: as given, or a file in the data directory."""
    return given or sqlite_url(data_dir / "catalogue.db")


def parse_url(url: str) -> URL:
    """A URL of SQLite or PostgreSQL, with the driver we use.

    Raises:
        SettingsError: it is none.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(
            "DATABASE_URL is not a URL. Give postgresql://USER:PASSWORD@HOST/DATABASE or "
            "sqlite:////FILE, or leave it out."
        ) from None
    backend = parsed.drivername.split("+")[0]
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    raise SettingsError(
        f"DATABASE_URL begins with {parsed.drivername}://; give "
        "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////FILE, or leave it out."
    )


def shown(url: URL) -> str:
    """A URL as it may be printed: without its password and the driver."""
    plain = url.set(drivername=url.get_backend_name())
    query = {name: value for name, value in plain.query.items() if "password" not in name}
    return plain.set(query=query).render_as_string(hide_password=True)


def open_engine(url: str, program: str = PROGRAM, *, pooled: bool = True) -> Engine:
    """Connect to the catalogue's database.

    SQLite gets a write-ahead log, so that searches read while a build writes.

    Args:
        url: of SQLite or PostgreSQL.
        program: the name under which PostgreSQL lists the connections.
        pooled: whether connections are kept for others when they are closed.

    Raises:
        SettingsError: the URL is wrong, or the driver is not installed.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, hide_parameters=True, poolclass=None if pooled else NullPool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A server that was restarted costs no request; a bounded number of connections.
    bounds = {"pool_size": _CONNECTIONS // 2, "max_overflow": _CONNECTIONS // 2}
    pool: dict[str, Any] = bounds if pooled else {"poolclass": NullPool}
    try:
        engine = create_engine(
            parsed,
            # A thousand values of a statement that failed would only fill the log.
            hide_parameters=True,
            pool_pre_ping=True,
            **pool,
            connect_args={"application_name": program, "connect_timeout": 10},
        )
    except ImportError:
        raise SettingsError(
            "DATABASE_URL names PostgreSQL, whose driver is not installed. Install it with "
            "pip install 'psycopg[binary]' (or futu[postgres]), or leave DATABASE_URL out."
        ) from None
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def reader(engine: Engine) -> Engine:
    """The same database for reading: all queries of one connection see one state."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def file_of(engine: Engine) -> Path | None:
    """The file of a SQLite database; None for PostgreSQL."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def reason(error: DBAPIError) -> str:
    """The first line of what a database says."""
    lines = str(error.orig).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error.orig).__name__


def check_server(engine: Engine) -> None:
    """Find out whether the database answers and can hold a catalogue.

    Raises:
        SettingsError: it does not, or cannot.
    """
    try:
        with engine.connect() as db:
            if engine.dialect.name == "postgresql":
                encoding = db.scalar(text("SHOW server_encoding"))
                if encoding != "UTF8":
                    raise SettingsError(
                        f"The database {shown(engine.url)} has the encoding {encoding}; make one "
                        "with createdb -E UTF8 -T template0."
                    )
            else:
                db.execute(text("SELECT count(*) FROM sqlite_master"))
    except DBAPIError as error:
        what = "cannot be reached" if isinstance(error, OperationalError) else "cannot be used"
        remedy = (
            "Start it, or correct DATABASE_URL"
            if engine.dialect.name == "postgresql"
            else "Mend its permissions, or restore a backup with futu restore"
        )
        raise SettingsError(
            f"The catalogue {shown(engine.url)} {what} ({reason(error)}). {remedy}."
        ) from error


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


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(
            f"SET lock_timeout = {_BUSY_TIMEOUT_MS}; "
            # A plan made while a table was small must not stay when it is large.
            "SET plan_cache_mode = force_custom_plan"
        )
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    # As SQLite has it: a write transaction is alone among writers, of all controllers. So no two
    # can deadlock, and what one has read stays so until it writes. One that only reads holds up
    # nobody, and may take its time.
    options = connection.get_execution_options()
    if options.get("futu_writes", False):
        most_ms = int(options.get("futu_idle_ms", _IDLE_TIMEOUT_MS))
        # The limit before the lock, lest a process be suspended between the two.
        connection.exec_driver_sql(
            f"SELECT set_config('idle_in_transaction_session_timeout', '{most_ms}', true), "
            f"pg_advisory_xact_lock({_WRITER})"
        )
