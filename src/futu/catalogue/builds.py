"""What is asked about builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    Connection,
    func,
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
    ERROR,
    FAILED,
    PENDING,
    QUARANTINED,
    Build,
    Image,
    ImageCount,
)
from futu.catalogue.session import Session, chunks, now
from futu.errors import NoModelError


class BuildQueries(Session):
    """Builds and their failures."""

    def start_build(
        self,
        dataset_id: int,
        model_id: str,
        *,
        retry_failed: bool = False,
        confirm_missing: bool = False,
    ) -> BuildRecord:
        """A new build of a dataset, and the end of one that was interrupted, in one step.

        Args:
            dataset_id: whose.
            model_id: the model it is for.
            retry_failed: as ``retry_failed`` below, in the same step.
            confirm_missing: whether files that are gone are forgotten however many they are.
        """
        interrupted = (Build.dataset_id == dataset_id) & (Build.state == BUILDING)
        started_at = now()
        with self.write(searchable=False) as db:
            db.execute(
                update(Build)
                .where(interrupted)
                .values(
                    state=ERROR,
                    message="Interrupted; a new build goes on from there.",
                    finished_at=started_at,
                )
            )
            if retry_failed:
                _wait_again(db, dataset_id)
            key = db.execute(
                insert(Build).values(
                    dataset_id=dataset_id,
                    model_id=model_id,
                    state=BUILDING,
                    confirm_missing=confirm_missing,
                    started_at=started_at,
                )
            ).inserted_primary_key
        assert key is not None  # noqa: S101 - an INSERT of one row has one
        return BuildRecord(
            key[0],
            dataset_id,
            model_id,
            BUILDING,
            confirm_missing=confirm_missing,
            started_at=started_at,
        )

    def save_build(self, build: BuildRecord) -> None:
        """Write a build's state and counts; one that has ended stays as it is."""
        facts = asdict(build)
        del facts["id"], facts["dataset_id"], facts["model_id"], facts["started_at"]
        this = (Build.id == build.id) & (Build.state == BUILDING)
        with self.write(searchable=False) as db:
            db.execute(update(Build).where(this).values(**facts))

    def retry_failed(self, dataset_id: int) -> int:
        """Let files that failed or were put aside wait for a vector again.

        Returns:
            How many there are.
        """
        with self.write() as db:
            return _wait_again(db, dataset_id)

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

    def builds(self, offset: int = 0, limit: int = 100) -> list[BuildRecord]:
        """Builds of all datasets, newest first."""
        query = _builds().order_by(Build.id.desc()).offset(offset).limit(limit)
        with self.read() as db:
            return [BuildRecord(**row) for row in db.execute(query).mappings()]

    def build_counts(self) -> dict[str, int]:
        """How many builds there are in each state."""
        query = select(Build.state, func.count()).group_by(Build.state)
        with self.read() as db:
            return {row[0]: row[1] for row in db.execute(query)}

    def unfinished_datasets(self) -> list[int]:
        """Ids of the datasets with images that wait for their vectors."""
        query = select(ImageCount.dataset_id).where(
            ImageCount.state == PENDING, ImageCount.images > 0
        )
        with self.read() as db:
            return [row[0] for row in db.execute(query.order_by(ImageCount.dataset_id))]

    def failures(
        self,
        dataset_id: int,
        offset: int = 0,
        limit: int = 1000,
        states: Sequence[str] = (FAILED, QUARANTINED),
    ) -> list[Failure]:
        """Files of a dataset in these states, by path."""
        query = (
            select(Image.path, Image.error_code, Image.error, Image.state)
            .where(Image.dataset_id == dataset_id, Image.state.in_(states))
            .order_by(Image.path)
            .offset(offset)
            .limit(limit)
        )
        with self.read() as db:
            rows = db.execute(query)
            return [Failure(row[0], row[1] or "", row[2] or "", row[3]) for row in rows]

    def failed_for_want(self) -> set[int]:
        """Ids of the datasets with files that failed for want of a server with the model."""
        this = (Image.state == FAILED) & (Image.error_code == NoModelError.code)
        with self.read() as db:
            return {row[0] for row in db.execute(select(Image.dataset_id).where(this).distinct())}

    def fail_for_want(self, dataset_id: int, contents: Sequence[bytes], error: str) -> None:
        """Files with these contents wait no longer: no compute server has the model."""
        waits = (Image.state == PENDING) | (Image.error_code == NoModelError.code)
        this = (Image.dataset_id == dataset_id) & waits
        failed = {"state": FAILED, "error_code": NoModelError.code, "error": error}
        for chunk in chunks(contents):
            with self.write() as db:
                db.execute(
                    update(Image).where(this, Image.content_hash.in_(chunk)).values(**failed)
                )

    def revive(self, hashes: Sequence[bytes]) -> list[int]:
        """Let images with these contents that were put aside wait for a vector again.

        Returns:
            Ids of their datasets.
        """
        datasets: set[int] = set()
        with self.write() as db:
            for chunk in chunks(hashes):
                wanted = (Image.state == QUARANTINED) & Image.content_hash.in_(chunk)
                found = db.execute(select(Image.dataset_id).where(wanted).distinct())
                datasets |= {row[0] for row in found}
                db.execute(
                    update(Image).where(wanted).values(state=PENDING, error_code=None, error=None)
                )
        return sorted(datasets)


def _builds() -> Any:
    return select(*Build.__table__.columns)


def _wait_again(db: Connection, dataset_id: int) -> int:
    failed = (Image.dataset_id == dataset_id) & Image.state.in_((FAILED, QUARANTINED))
    changed = update(Image).where(failed).values(state=PENDING, error_code=None, error=None)
    return db.execute(changed).rowcount
