"""Writing many rows with one statement.

SQLAlchemy's own executemany costs more than the database does. Here SQLite gets the rows by its
driver's executemany; PostgreSQL gets one array for each column, so that its triggers run once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.engine import Dialect

Rows = Sequence[Sequence[Any]]


def insert_rows(
    db: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Rows,
    *,
    key: Sequence[str],
    changed: Sequence[str] = (),
) -> None:
    """Insert rows; where one with the same key is there, change these of its columns.

    Args:
        db: a transaction that may write.
        table: where to.
        columns: what each row has, in order.
        rows: no two with the same key.
        key: columns of a unique constraint.
        changed: columns that take the new values; none: the old row stays as it is.
    """
    on_conflict = "DO NOTHING"
    if changed:
        on_conflict = "DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in changed)
    head = f"INSERT INTO {table.name} ({', '.join(columns)})"
    tail = f"ON CONFLICT ({', '.join(key)}) {on_conflict}"
    if db.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        statement = f"{head} VALUES ({marks}) {tail}"
    else:
        arrays = _arrays(db.dialect, table, columns)
        statement = f"{head} SELECT * FROM {arrays} {tail}"  # noqa: S608 - names of our schema
    _run(db, statement, table, columns, rows)


def update_rows(
    db: Connection,
    table: Table,
    key: str,
    values: Sequence[str],
    rows: Rows,
    *,
    constants: str = "",
    where: str = "TRUE",
) -> None:
    """Change the rows that have a key.

    Args:
        db: a transaction that may write.
        table: which.
        key: the column to find them by; not unique.
        values: the columns to change.
        rows: of each the values, in order, then the key.
        constants: further assignments, as SQL.
        where: which of them, as SQL that is true of the row before.
    """
    columns = [*values, key]
    if db.dialect.name == "sqlite":
        given = ", ".join(f"{c} = ?" for c in values)
        tail = f"WHERE {key} = ? AND {where}"
    else:
        given = ", ".join(f"{c} = given.{c}" for c in values)
        arrays = _arrays(db.dialect, table, columns)
        tail = f"FROM {arrays} AS given ({', '.join(columns)}) "
        tail += f"WHERE {table.name}.{key} = given.{key} AND {where}"
    assigned = ", ".join(part for part in (given, constants) if part)
    statement = f"UPDATE {table.name} SET {assigned} {tail}"  # noqa: S608 - names of our schema
    _run(db, statement, table, columns, rows)


def _arrays(dialect: Dialect, table: Table, columns: Sequence[str]) -> str:
    types = (table.c[c].type.compile(dialect) for c in columns)
    return "unnest(" + ", ".join(f"%b::{t}[]" for t in types) + ")"


def _run(db: Connection, statement: str, table: Table, columns: Sequence[str], rows: Rows) -> None:
    if not rows:
        return
    processors = [_processor(db.dialect, table, c) for c in columns]
    by_column = [
        [process(value) for value in values] if process is not None else values
        for process, values in zip(processors, zip(*rows, strict=True), strict=True)
    ]
    if db.dialect.name == "sqlite":
        db.exec_driver_sql(statement, list(zip(*by_column, strict=True)))
    else:
        db.exec_driver_sql(statement, tuple(list(values) for values in by_column))


@functools.cache
def _processor(dialect: Dialect, table: Table, column: str) -> Callable[[Any], Any] | None:
    return table.c[column].type.dialect_impl(dialect).bind_processor(dialect)
