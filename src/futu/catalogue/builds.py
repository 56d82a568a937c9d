"""What is asked about builds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    insert,
    select,
    update,
)

from futu.catalogue.records import (
    BuildRecord,
    Failure,
)
from futu.catalogue.schema import (
    BUILDING,
    FAILED,
    Build,
    Image,
)
from futu.catalogue.session import Session, now


class BuildQueries(Session):
    """Builds and their failures."""

    def start_build(self, dataset_id: int, model_id: str) -> BuildRecord:
        """A new build of a dataset."""
        with self.write() as db:
            key = db.execute(
                insert(Build).values(
                    dataset_id=dataset_id, model_id=model_id, state=BUILDING, started_at=now()
                )
            ).inserted_primary_key
        assert key is not None  # noqa: S101 - an INSERT of one row has one
        return BuildRecord(key[0], dataset_id, model_id, BUILDING, started_at=now())

    def save_build(self, build: BuildRecord) -> None:
        """Write a build's state and counts."""
        facts = asdict(build)
        del facts["id"], facts["dataset_id"], facts["model_id"], facts["started_at"]
        with self.write() as db:
            db.execute(update(Build).where(Build.id == build.id).values(**facts))

    def last_build(self, dataset_id: int) -> BuildRecord | None:
        """The newest build of a dataset."""
        query = _builds().where(Build.dataset_id == dataset_id).order_by(Build.id.desc()).limit(1)
        with self.read() as db:
            row = db.execute(query).mappings().first()
        return BuildRecord(**row) if row is not None else None

    def interrupted_builds(self) -> list[BuildRecord]:
        """Builds that were under way when the controller ended."""
        with self.read() as db:
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
        with self.read() as db:
            return [Failure(row[0], row[1] or "", row[2] or "") for row in db.execute(query)]


def _builds() -> Any:
    return select(*Build.__table__.columns)
