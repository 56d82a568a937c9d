"""Backups of a catalogue in PostgreSQL, by its own programs pg_dump, pg_restore and psql."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL

import futu.catalogue.duplicate_schema  # noqa: F401 - its tables belong to Base too
from futu.catalogue.engine import PROGRAM, check_server, open_engine, parse_url, shown
from futu.catalogue.schema import Base
from futu.errors import BackupError

_FUNCTIONS = ("count_inserted_images", "count_deleted_images", "count_changed_images")
_COPY_BYTES = 1024 * 1024


def make(url: str, target: Path, tables: Sequence[str]) -> dict[str, int]:
    """Dump a database as it is at one instant, and read the dump again.

    Args:
        url: of the database.
        target: the file.
        tables: whose rows are counted.

    Returns:
        Rows by table.

    Raises:
        BackupError: a program is missing, or fails.
    """
    address, environment = _address(url)
    pg_dump, pg_restore = _program("pg_dump"), _program("pg_restore")
    engine = open_engine(url, f"{PROGRAM} backup")
    try:
        check_server(engine)
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as db:
            if not _has_catalogue(db):
                raise BackupError(f"There is no catalogue in {shown(engine.url)}.")
            # It is idle while pg_dump reads what it sees.
            db.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            snapshot = db.scalar(text("SELECT pg_export_snapshot()"))
            counts = {
                table: int(db.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608
                for table in tables
            }
            options = ["--format=custom", "--compress=1", "--no-owner", "--no-privileges"]
            options += [f"--snapshot={snapshot}", f"--file={target}", f"--dbname={address}"]
            _run([pg_dump, *options], environment)
    finally:
        engine.dispose()
    _run([pg_restore, f"--file={os.devnull}", str(target)], environment)
    return counts


def restore(url: str, source: Path, keep_present: Callable[[], object], *, force: bool) -> bool:
    """Let a dump take the place of the catalogue's tables, in one transaction.

    Args:
        url: of the database.
        source: the dump.
        keep_present: called before a catalogue is replaced.
        force: whether one that has datasets is.

    Returns:
        Whether there was one.

    Raises:
        BackupError: the catalogue is in use or not empty, or a program is missing or fails.
    """
    address, environment = _address(url)
    pg_restore, psql = _program("pg_restore"), _program("psql")
    _run([pg_restore, f"--file={os.devnull}", str(source)], environment)
    engine = open_engine(url, f"{PROGRAM} restore")
    try:
        check_server(engine)
        there = _check_replaceable(engine, force=force)
    finally:
        engine.dispose()
    if there:
        keep_present()
    tables = [table.name for table in Base.metadata.sorted_tables]
    before = f"DROP TABLE IF EXISTS {', '.join(tables)}, alembic_version CASCADE;\n"
    before += "".join(f"DROP FUNCTION IF EXISTS {name}();\n" for name in _FUNCTIONS)
    # The dump leaves the search path empty.
    after = "UPDATE public.facts SET value = gen_random_uuid() WHERE name = 'identity';\n"
    _pipe(
        [pg_restore, "--no-owner", "--no-privileges", "--file=-", str(source)],
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", address],
        environment,
        before.encode(),
        after.encode(),
    )
    return there


def _check_replaceable(engine: Engine, *, force: bool) -> bool:
    """Whether there is a catalogue, which may be replaced."""
    with engine.connect() as db:
        query = text(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = :name AND datname = current_database()"
        )
        if db.scalar(query, {"name": PROGRAM}):
            raise BackupError(
                f"A controller is using the catalogue {shown(engine.url)}. Stop all that do."
            )
        there = _has_catalogue(db)
        used = there and db.scalar(text("SELECT count(*) FROM datasets"))
    if used and not force:
        raise BackupError(
            f"The catalogue {shown(engine.url)} is not empty. With --force the backup takes its "
            "place; a backup of it is made before."
        )
    return there


def _has_catalogue(db: Connection) -> bool:
    return db.scalar(text("SELECT to_regclass('alembic_version')")) is not None


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BackupError(
            f"{name} is not installed, which backups of PostgreSQL need. Install PostgreSQL's "
            "client programs (Debian: postgresql-client), or use futu export --all."
        )
    return found


def _address(url: str) -> tuple[str, dict[str, str]]:
    """A database's URL as its programs take it, and the environment that has its password."""
    parsed: URL = parse_url(url)
    environment = dict(os.environ)
    if parsed.password:
        environment["PGPASSWORD"] = str(parsed.password)
    plain = URL.create(
        "postgresql",
        username=parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query=parsed.query,
    )
    return plain.render_as_string(), environment


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        raise _failed(command[0], done.stderr)


def _failed(program: str, said: bytes) -> BackupError:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    remedy = " Use the programs of the server's version." if b"version mismatch" in said else ""
    return BackupError(f"{program} failed ({'; '.join(lines[:3])}).{remedy}")


def _pipe(
    reader: Sequence[str],
    writer: Sequence[str],
    environment: dict[str, str],
    before: bytes,
    after: bytes,
) -> None:
    """Give what one program writes to another, with something before and after it.

    The second ends its transaction when its input ends; when the first fails it is killed before.
    """
    with (
        tempfile.TemporaryFile() as source_says,
        tempfile.TemporaryFile() as target_says,
        subprocess.Popen(
            reader, env=environment, stdout=subprocess.PIPE, stderr=source_says
        ) as source,
        subprocess.Popen(
            writer,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=target_says,
        ) as target,
    ):
        assert source.stdout is not None  # noqa: S101 - asked for above
        assert target.stdin is not None  # noqa: S101
        try:
            target.stdin.write(before)
            shutil.copyfileobj(source.stdout, target.stdin, _COPY_BYTES)
            if source.wait() == 0:
                target.stdin.write(after)
            else:
                target.kill()
            target.stdin.close()
        except BrokenPipeError:
            source.kill()
        source.wait()
        if target.wait():
            target_says.seek(0)
            source_says.seek(0)
            if said := target_says.read():
                raise _failed(writer[0], said)
            raise _failed(reader[0], source_says.read())
