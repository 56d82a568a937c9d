"""Everything asked of the catalogue. No other file holds a query."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import (
    Connection,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from futu.catalogue.engine import migrate, open_engine
from futu.catalogue.records import (
    BuildRecord,
    DatasetRecord,
    Failure,
    Ids,
    ImageRecord,
    KnownFile,
    Outcome,
    ScannedFile,
    Vectors,
)
from futu.catalogue.schema import (
    BUILDING,
    FAILED,
    MISSING,
    PENDING,
    READY,
    Build,
    Dataset,
    Fact,
    Image,
    Vector,
)
from futu.errors import InvalidRequestError, UnknownDatasetError, UnknownImageError

# The most parameters one statement may have is 32,766 in SQLite and 65,535 in PostgreSQL.
_CHUNK = 1000

_T = TypeVar("_T")


def _chunks(items: Sequence[_T], size: int = _CHUNK) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _now() -> datetime:
    return datetime.now(UTC)


class Catalogue:
    """The source of truth. Safe for several threads; writes are one at a time.

    Args:
        url: SQLAlchemy URL of the database; its tables are created or migrated now.

    Attributes:
        changes: counts the writes that can change what a search finds; caches compare it.
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
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with (
            self._lock,
            self._engine.connect().execution_options(futu_writes=True) as connection,
            connection.begin(),
        ):
            yield connection
        self.changes += 1

    def _insert(self, table: Any) -> Any:
        """An INSERT that knows ON CONFLICT, which both our databases have and SQL has not."""
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)

    def _identity(self) -> str:
        with self._write() as db:
            db.execute(
                self._insert(Fact)
                .values(name="identity", value=uuid.uuid4().hex)
                .on_conflict_do_nothing()
            )
            return str(db.scalar(select(Fact.value).where(Fact.name == "identity")))

    def ping(self) -> None:
        """Raises whatever the database raises when it is not usable."""
        with self._read() as db:
            db.execute(select(Fact.name).limit(1))

    # --- datasets --------------------------------------------------------------------------

    def add_dataset(self, name: str, folder: str, description: str = "") -> DatasetRecord:
        """Register a folder; the same name and folder again is no change.

        Raises:
            InvalidRequestError: the name or the folder belongs to another dataset.
        """
        try:
            with self._write() as db:
                db.execute(
                    insert(Dataset).values(
                        name=name, folder=folder, description=description, created_at=_now()
                    )
                )
        except IntegrityError:
            with self._read() as db:
                row = (
                    db.execute(
                        _datasets().where((Dataset.name == name) | (Dataset.folder == folder))
                    )
                    .mappings()
                    .first()
                )
            if row is None or (row["name"], row["folder"]) != (name, folder):
                raise InvalidRequestError(
                    f"The dataset name {name!r} or its folder is already in use.", name=name
                ) from None
        return self.dataset(name)

    def datasets(self) -> list[DatasetRecord]:
        """All datasets, by name."""
        with self._read() as db:
            rows = db.execute(_datasets().order_by(Dataset.name)).mappings()
            return [DatasetRecord(**row) for row in rows]

    def dataset(self, name_or_id: str | int) -> DatasetRecord:
        """A dataset by its name, or by its id as a number or in digits.

        Raises:
            UnknownDatasetError: no dataset has that name or id.
        """
        with self._read() as db:
            query = _datasets().where(Dataset.name == str(name_or_id))
            row = db.execute(query).mappings().first()
            if row is None and str(name_or_id).isdecimal() and len(str(name_or_id)) < 19:
                query = _datasets().where(Dataset.id == int(name_or_id))
                row = db.execute(query).mappings().first()
        if row is None:
            raise UnknownDatasetError(
                f"There is no dataset {name_or_id!r}. GET /api/datasets lists them.",
                dataset=str(name_or_id),
            )
        return DatasetRecord(**row)

    def image_counts(self) -> dict[int, int]:
        """Dataset id -> searchable images."""
        with self._read() as db:
            rows = db.execute(
                select(Image.dataset_id, func.count())
                .where(Image.state == READY)
                .group_by(Image.dataset_id)
            )
            return {row[0]: row[1] for row in rows}

    def first_images(self) -> dict[int, ImageRecord]:
        """Dataset id -> its first searchable image."""
        first = select(func.min(Image.id)).where(Image.state == READY).group_by(Image.dataset_id)
        with self._read() as db:
            rows = db.execute(_images().where(Image.id.in_(first))).mappings()
            return {row["dataset_id"]: ImageRecord(**row) for row in rows}

    # --- scanning --------------------------------------------------------------------------

    def known_files(self, dataset_id: int, model_id: str) -> dict[str, KnownFile]:
        """Path -> what is known of it, for all files ever seen in a dataset."""
        query = (
            select(
                Image.path,
                Image.id,
                Image.size,
                Image.mtime_ns,
                Image.content_hash,
                Image.state,
                Image.error_code,
                Vector.id,
            )
            .outerjoin(
                Vector,
                (Vector.content_hash == Image.content_hash) & (Vector.model_id == model_id),
            )
            .where(Image.dataset_id == dataset_id)
        )
        with self._read() as db:
            return {row[0]: KnownFile(*row[1:]) for row in db.execute(query)}

    def vector_ids(self, hashes: Sequence[bytes], model_id: str) -> dict[bytes, int]:
        """Content hash -> vector id, for those that have one."""
        with self._read() as db:
            return _vector_ids(db, hashes, model_id)

    def write_files(self, dataset_id: int, files: Sequence[ScannedFile]) -> None:
        """Insert or update the rows of scanned files."""
        statement = self._insert(Image)
        changed = ("size", "mtime_ns", "content_hash", "state", "error_code", "error")
        statement = statement.on_conflict_do_update(
            index_elements=["dataset_id", "path"],
            set_={name: statement.excluded[name] for name in changed},
        )
        rows = [
            {**asdict(file), "dataset_id": dataset_id, "width": 0, "height": 0, "added_at": _now()}
            for file in files
        ]
        if rows:
            with self._write() as db:
                db.execute(statement, rows)

    def mark_missing(self, image_ids: Sequence[int]) -> None:
        """These files are gone. Their rows and vectors stay, in case they come back."""
        with self._write() as db:
            for chunk in _chunks(image_ids):
                db.execute(update(Image).where(Image.id.in_(chunk)).values(state=MISSING))

    def record(self, outcomes: Sequence[Outcome], model_id: str) -> dict[bytes, int]:
        """Write what became of contents; the same outcomes again change nothing.

        Returns:
            content hash -> vector id, for the successful ones.
        """
        good = [o for o in outcomes if o.vector is not None]
        bad = [o for o in outcomes if o.vector is None]
        with self._write() as db:
            if good:
                db.execute(
                    self._insert(Vector).on_conflict_do_nothing(
                        index_elements=["model_id", "content_hash"]
                    ),
                    [
                        {
                            "model_id": model_id,
                            "content_hash": o.content_hash,
                            "data": np.asarray(o.vector, "<f2").tobytes(),
                        }
                        for o in good
                    ],
                )
                db.execute(
                    update(Image)
                    .where(Image.content_hash == bindparam("h"), Image.state != MISSING)
                    .values(
                        state=READY,
                        error_code=None,
                        error=None,
                        width=bindparam("w"),
                        height=bindparam("v"),
                    ),
                    [{"h": o.content_hash, "w": o.width, "v": o.height} for o in good],
                )
            if bad:
                db.execute(
                    update(Image)
                    .where(Image.content_hash == bindparam("h"), Image.state == PENDING)
                    .values(state=FAILED, error_code=bindparam("c"), error=bindparam("e")),
                    [{"h": o.content_hash, "c": o.error_code, "e": o.error} for o in bad],
                )
            return _vector_ids(db, [o.content_hash for o in good], model_id)

    # --- builds ----------------------------------------------------------------------------

    def start_build(self, dataset_id: int, model_id: str) -> BuildRecord:
        """A new build of a dataset."""
        with self._write() as db:
            key = db.execute(
                insert(Build).values(
                    dataset_id=dataset_id, model_id=model_id, state=BUILDING, started_at=_now()
                )
            ).inserted_primary_key
        assert key is not None  # noqa: S101 - an INSERT of one row has one
        return BuildRecord(key[0], dataset_id, model_id, BUILDING, started_at=_now())

    def save_build(self, build: BuildRecord) -> None:
        """Write a build's state and counts."""
        facts = asdict(build)
        del facts["id"], facts["dataset_id"], facts["model_id"], facts["started_at"]
        with self._write() as db:
            db.execute(update(Build).where(Build.id == build.id).values(**facts))

    def last_build(self, dataset_id: int) -> BuildRecord | None:
        """The newest build of a dataset."""
        query = _builds().where(Build.dataset_id == dataset_id).order_by(Build.id.desc()).limit(1)
        with self._read() as db:
            row = db.execute(query).mappings().first()
        return BuildRecord(**row) if row is not None else None

    def interrupted_builds(self) -> list[BuildRecord]:
        """Builds that were under way when the controller ended."""
        with self._read() as db:
            rows = db.execute(_builds().where(Build.state == BUILDING)).mappings()
            return [BuildRecord(**row) for row in rows]

    def failures(self, dataset_id: int, offset: int = 0, limit: int = 1000) -> list[Failure]:
        """Files of a dataset that could not be indexed, by path."""
        query = (
            select(Image.path, Image.error_code, Image.error)
            .where(Image.dataset_id == dataset_id, Image.state == FAILED)
            .order_by(Image.path)
            .offset(offset)
            .limit(limit)
        )
        with self._read() as db:
            return [Failure(row[0], row[1] or "", row[2] or "") for row in db.execute(query)]

    # --- searching -------------------------------------------------------------------------

    def image(self, image_id: int) -> ImageRecord:
        """An image by id.

        Raises:
            UnknownImageError: there is none.
        """
        with self._read() as db:
            row = db.execute(_images().where(Image.id == image_id)).mappings().first()
        if row is None:
            raise UnknownImageError(f"There is no image {image_id}.", id=image_id)
        return ImageRecord(**row)

    def images_of_vectors(
        self, vector_ids: Sequence[int], dataset_ids: Sequence[int]
    ) -> dict[int, list[ImageRecord]]:
        """Vector id -> searchable images of these datasets with that content, oldest first."""
        found: dict[int, list[ImageRecord]] = {}
        with self._read() as db:
            for chunk in _chunks(vector_ids):
                # In two steps, each by an index: as one join, SQLite may walk all images.
                vectors = select(Vector.content_hash, Vector.id).where(Vector.id.in_(chunk))
                owners = {row[0]: row[1] for row in db.execute(vectors)}
                query = (
                    _images(Image.content_hash)
                    .where(Image.content_hash.in_(list(owners)), Image.state == READY)
                    .order_by(Image.id)
                )
                for row in db.execute(query).mappings():
                    if row["dataset_id"] in dataset_ids:
                        vector_id = owners[row["content_hash"]]
                        image = ImageRecord(**row, vector_id=vector_id)
                        found.setdefault(vector_id, []).append(image)
        return found

    def searchable_vector_ids(self, model_id: str, dataset_ids: Sequence[int] | None = None) -> Ids:
        """Ids of the vectors that at least one searchable image has, ascending, int64."""
        query = (
            select(Vector.id)
            .distinct()
            .join(Image, Image.content_hash == Vector.content_hash)
            .where(Vector.model_id == model_id, Image.state == READY)
        )
        if dataset_ids is not None:
            query = query.where(Image.dataset_id.in_(dataset_ids))
        with self._read() as db:
            return np.sort(np.fromiter((row[0] for row in db.execute(query)), np.int64))

    def vectors(self, vector_ids: Sequence[int]) -> Iterator[tuple[Ids, Vectors]]:
        """These vectors in pieces: ids (n,) int64 and vectors (n, dimension) float16."""
        for chunk in _chunks(vector_ids):
            with self._read() as db:
                rows = db.execute(
                    select(Vector.id, Vector.data).where(Vector.id.in_(chunk)).order_by(Vector.id)
                ).all()
            if rows:
                ids = np.array([row[0] for row in rows], np.int64)
                yield ids, np.stack([np.frombuffer(row[1], "<f2") for row in rows])


def _vector_ids(db: Connection, hashes: Sequence[bytes], model_id: str) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for chunk in _chunks(hashes):
        query = select(Vector.content_hash, Vector.id).where(
            Vector.model_id == model_id, Vector.content_hash.in_(chunk)
        )
        found.update({bytes(digest): vector_id for digest, vector_id in db.execute(query)})
    return found


def _datasets() -> Any:
    return select(Dataset.id, Dataset.name, Dataset.folder, Dataset.description)


def _images(*further: Any) -> Any:
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


def _builds() -> Any:
    return select(*Build.__table__.columns)
