"""The catalogue's database as its queries use it: reading, writing, and what they share."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    cast,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from futu.catalogue.engine import PROGRAM, open_engine, reader, reason, shown
from futu.catalogue.migrate import migrate
from futu.catalogue.schema import (
    Dataset,
    Fact,
    Image,
    Vector,
)
from futu.errors import CatalogueUnavailableError, NotLeadingError

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


CHANGES, LEADING_TERM = "changes", "leading_term"
"""Facts that count: the writes of all controllers to a shared catalogue; the terms of leaders."""


def count_up(db: Connection, insert: Any, name: str) -> int:
    """Add 1 to a fact that counts; returns what it is then."""
    more = cast(cast(Fact.value, BigInteger) + 1, Text)
    statement = insert.values(name=name, value="1").on_conflict_do_update(
        index_elements=["name"], set_={"value": more}
    )
    return int(db.scalar(statement.returning(Fact.value)) or 0)


@dataclass(frozen=True)
class Term:
    """The time in which one controller leads; the next leader begins one with a higher number.

    Attributes:
        number: counted by the catalogue.
        most_s: a transaction of a leader that is suspended for longer is ended by PostgreSQL,
            lest the next leader waits for it.
        refused: called when a write was refused.
    """

    number: int
    most_s: float = 5.0
    refused: Callable[[], None] | None = None

    def check(self, db: Connection) -> None:
        """Refuse to write when another controller leads.

        No other writes meanwhile, so what is found holds until the transaction ends.

        Raises:
            NotLeadingError: one does.
        """
        if db.scalar(select(Fact.value).where(Fact.name == LEADING_TERM)) != str(self.number):
            if self.refused is not None:
                self.refused()
            raise NotLeadingError(
                "Another controller leads now; this one does not write any more.",
                term=self.number,
            )


class Session:
    """The database, one writer at a time. Safe for several threads.

    Args:
        url: of the database (see ``open_engine``); its tables are created or migrated now.
        program: the name under which PostgreSQL lists the connections.

    Raises:
        SettingsError: the database cannot be used; the message says why.

    Attributes:
        identity: of this catalogue, made at its creation.
        shared: whether several controllers may have it open.
    """

    _term: Term | None = None

    def __init__(self, url: str, program: str = PROGRAM) -> None:
        self._engine = open_engine(url, program)
        self._reader = reader(self._engine)
        self._lock = threading.Lock()
        # Not of the pool, which is smaller than the number of threads that may search.
        self._unpooled = open_engine(url, program, pooled=False)
        self._own = threading.local()
        self._quick: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._changes = itertools.count(1)
        self._seen = [0]
        self.shared = self._engine.dialect.name == "postgresql"
        try:
            migrate(self._engine)
            self.identity = self._identity()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections; no thread may be using one."""
        for connection in list(self._quick):
            connection.close()
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries that see one state.

        Raises:
            CatalogueUnavailableError: the database does not answer.
        """
        with self._answering_database(), self._reader.connect() as connection:
            yield connection

    def rows(self, statement: Any, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of one small query, by a connection that each thread has to itself.

        A search makes a few of these; to take a connection and begin a transaction for each
        costs more than the queries.

        Raises:
            CatalogueUnavailableError: the database does not answer.
        """
        with self._answering_database():
            connection: Connection | None = getattr(self._own, "connection", None)
            if connection is not None and not connection.closed:
                try:
                    return connection.execute(statement, parameters).all()
                except DBAPIError as error:
                    connection.close()
                    if not error.connection_invalidated:
                        raise
            # The first of this thread, or the server has been restarted since.
            options = {"isolation_level": "AUTOCOMMIT"}
            connection = self._unpooled.connect().execution_options(**options)
            self._own.connection = connection
            self._quick.add(connection)
            return connection.execute(statement, parameters).all()

    @contextlib.contextmanager
    def write(self, *, searchable: bool = True) -> Iterator[Connection]:
        """A transaction, alone among writers; committed at the end of the block.

        Args:
            searchable: whether it may change which images are searchable; ``version`` counts these.

        Raises:
            CatalogueUnavailableError: the database does not answer, or has no room.
        """
        with (
            self._answering_database(),
            self._lock,
            self._engine.connect().execution_options(**self._options()) as connection,
            connection.begin(),
        ):
            if self._term is not None:
                self._term.check(connection)
            yield connection
            if searchable:
                connection.execute(_COUNT_UP)
            if self.shared:
                count_up(connection, self.insert_or(Fact), CHANGES)
        self.changed()

    def _options(self) -> dict[str, Any]:
        """What a write transaction tells the engine's listeners."""
        if self._term is None:
            return {"futu_writes": True}
        return {"futu_writes": True, "futu_idle_ms": max(1, int(self._term.most_s * 1000))}

    @property
    def changes(self) -> int:
        """Counts the writes that can change what a search finds; caches compare it."""
        return self._seen[0]

    def changed(self) -> None:
        """Something was written: by us, or by another controller."""
        self._seen[0] = next(self._changes)

    def under(self, term: Term) -> Self:
        """The same catalogue for what a leader does: it writes only in its own term."""
        view = copy.copy(self)
        view._term = term
        return view

    @contextlib.contextmanager
    def _answering_database(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            raise self._unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise self._unavailable(error) from error
            raise

    def _unavailable(self, error: DBAPIError) -> CatalogueUnavailableError:
        return CatalogueUnavailableError(
            f"The catalogue {shown(self._engine.url)} cannot be used now ({reason(error)}). "
            "See that its database runs and has room; work goes on where it was."
        )

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
