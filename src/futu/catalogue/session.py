"""The catalogue's database as its queries use it: reading, writing, and what they share."""

from __future__ import annotations

import contextlib
import threading
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from futu.catalogue.engine import migrate, open_engine
from futu.catalogue.schema import (
    Dataset,
    Fact,
    Image,
    Vector,
)

# The most parameters one statement may have is 32,766 in SQLite and 65,535 in PostgreSQL.
_CHUNK = 1000

_T = TypeVar("_T")


def chunks(items: Sequence[_T], size: int = _CHUNK) -> Iterator[Sequence[_T]]:
    """Pieces of a list small enough for one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


class Session:
    """The database, one writer at a time. Safe for several threads.

    Args:
        url: SQLAlchemy URL of the database; its tables are created or migrated now.

    Attributes:
        changes: counts the writes that can change what a search finds; caches compare it.
        identity: of this catalogue, made at its creation.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self._lock = threading.Lock()
        # Not of the pool, which is smaller than the number of threads that may search.
        self._unpooled = open_engine(url, pooled=False)
        self._own = threading.local()
        self._quick: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.changes = 0
        migrate(self._engine)
        self.identity = self._identity()

    def close(self) -> None:
        """Close all connections; no thread may be using one."""
        for connection in list(self._quick):
            connection.close()
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries that see one state."""
        with self._engine.connect() as connection:
            yield connection

    def rows(self, statement: Any, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of one small query, by a connection that each thread has to itself.

        A search makes a few of these; to take a connection and begin a transaction for each
        costs more than the queries.
        """
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None or connection.closed or connection.invalidated:
            options = {"isolation_level": "AUTOCOMMIT"}
            connection = self._unpooled.connect().execution_options(**options)
            self._own.connection = connection
            self._quick.add(connection)
        return connection.execute(statement, parameters).all()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, alone among writers; committed at the end of the block."""
        with (
            self._lock,
            self._engine.connect().execution_options(futu_writes=True) as connection,
            connection.begin(),
        ):
            yield connection
        self.changes += 1

    def insert_or(self, table: Any) -> Any:
        """An INSERT that knows ON CONFLICT, which both our databases have and SQL has not."""
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)

    def _identity(self) -> str:
        with self.write() as db:
            db.execute(
                self.insert_or(Fact)
                .values(name="identity", value=uuid.uuid4().hex)
                .on_conflict_do_nothing()
            )
            return str(db.scalar(select(Fact.value).where(Fact.name == "identity")))

    def ping(self) -> None:
        """Raises whatever the database raises when it is not usable."""
        with self.read() as db:
            db.execute(select(Fact.name).limit(1))


def vector_ids_of(db: Connection, hashes: Sequence[bytes], model_id: str) -> dict[bytes, int]:
    """Content hash -> vector id, for those that have one."""
    found: dict[bytes, int] = {}
    for chunk in chunks(hashes):
        query = select(Vector.content_hash, Vector.id).where(
            Vector.model_id == model_id, Vector.content_hash.in_(chunk)
        )
        found.update({bytes(digest): vector_id for digest, vector_id in db.execute(query)})
    return found


def images_query(*further: Any) -> Any:
    """Select images with their dataset, as ``ImageRecord`` has them; ``further`` columns too."""
    return select(
        Image.id,
        Image.dataset_id,
        Dataset.name.label("dataset"),
        Dataset.folder,
        Image.path,
        Image.size,
        Image.mtime_ns,
        Image.width,
        Image.height,
        Image.state,
        *further,
    ).join(Dataset, Dataset.id == Image.dataset_id)
