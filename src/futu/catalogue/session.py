"""The catalogue's database as its queries use it: reading, writing, and what they share."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    cast,
    select,
    update,
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

_VERSION = "version"
_COUNT_UP = (
    update(Fact)
    .where(Fact.name == _VERSION)
    .values(value=cast(cast(Fact.value, BigInteger) + 1, Text))
)

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
        self.changes = 0
        migrate(self._engine)
        self.identity = self._identity()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries that see one state."""
        with self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, searchable: bool = True) -> Iterator[Connection]:
        """A transaction, alone among writers; committed at the end of the block.

        Args:
            searchable: whether it may change which images are searchable; ``version`` counts these.
        """
        with (
            self._lock,
            self._engine.connect().execution_options(futu_writes=True) as connection,
            connection.begin(),
        ):
            yield connection
            if searchable:
                connection.execute(_COUNT_UP)
        self.changes += 1

    def insert_or(self, table: Any) -> Any:
        """An INSERT that knows ON CONFLICT, which both our databases have and SQL has not."""
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)

    def version(self) -> int:
        """Counts the transactions that may have changed which images are searchable.

        It is kept in the catalogue: what was derived from it may be compared after a restart.
        """
        with self.read() as db:
            return int(db.scalar(select(Fact.value).where(Fact.name == _VERSION)) or 0)

    def _identity(self) -> str:
        facts = ({"name": "identity", "value": uuid.uuid4().hex}, {"name": _VERSION, "value": "0"})
        with self.write(searchable=False) as db:
            for fact in facts:
                db.execute(self.insert_or(Fact).values(**fact).on_conflict_do_nothing())
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
