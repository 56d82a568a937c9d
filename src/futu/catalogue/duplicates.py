"""What is asked about duplicates: runs, their groups, and what people decided."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from futu.catalogue.bulk import insert_rows
from futu.catalogue.duplicate_records import (
    DuplicateGroupRecord,
    DuplicateMemberRecord,
    DuplicateRunRecord,
    FoundGroup,
)
from futu.catalogue.duplicate_schema import (
    DISMISSED,
    OPEN,
    RUNNING,
    TIERS,
    DuplicateGroup,
    DuplicateMember,
    DuplicateRun,
)
from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import DONE, ERROR, Dataset, Image
from futu.catalogue.session import Session, chunks, images_query, now
from futu.errors import NotFoundError

_RUNS = cast(Table, DuplicateRun.__table__)
_GROUPS = cast(Table, DuplicateGroup.__table__)
_MEMBERS = cast(Table, DuplicateMember.__table__)
_KEPT_RUNS = 2
_GROUPS_AT_ONCE = 2000


def scope_of(dataset_ids: Collection[int]) -> str:
    """The digest by which runs of the same datasets are found."""
    return hashlib.sha256(_joined(dataset_ids).encode()).hexdigest()


def _joined(dataset_ids: Collection[int]) -> str:
    return ",".join(str(key) for key in sorted(set(dataset_ids)))


class DuplicateQueries(Session):
    """Runs and groups."""

    # --- runs --------------------------------------------------------------------------------

    def start_duplicates(
        self, dataset_ids: Collection[int], preset: str, threshold: float, model_id: str
    ) -> DuplicateRunRecord:
        """A new run over some datasets, and the end of one of these that was interrupted."""
        scope, started_at = scope_of(dataset_ids), now()
        message = "Interrupted; another run began anew."
        with self.write(searchable=False) as db:
            db.execute(
                update(_RUNS)
                .where(_RUNS.c.scope == scope, _RUNS.c.state == RUNNING)
                .values(state=ERROR, message=message, finished_at=started_at)
            )
            key = db.execute(
                insert(DuplicateRun).values(
                    scope=scope,
                    dataset_ids=_joined(dataset_ids),
                    preset=preset,
                    threshold=threshold,
                    model_id=model_id,
                    state=RUNNING,
                    started_at=started_at,
                )
            ).inserted_primary_key
        assert key is not None  # noqa: S101 - an INSERT of one row has one
        ids = tuple(sorted(set(dataset_ids)))
        return DuplicateRunRecord(
            key[0], ids, preset, threshold, model_id, RUNNING, started_at=started_at
        )

    def save_duplicates(self, run: DuplicateRunRecord) -> None:
        """Write a run's state and counts; one that has ended stays as it is."""
        facts = asdict(run)
        for name in ("id", "dataset_ids", "started_at"):
            del facts[name]
        this = (_RUNS.c.id == run.id) & (_RUNS.c.state == RUNNING)
        with self.write(searchable=False) as db:
            db.execute(update(_RUNS).where(this).values(**facts))

    def duplicate_run(self, run_id: int) -> DuplicateRunRecord:
        """A run by id.

        Raises:
            NotFoundError: there is none, or it was forgotten for newer ones.
        """
        with self.read() as db:
            row = db.execute(select(_RUNS).where(_RUNS.c.id == run_id)).mappings().first()
        if row is None:
            raise NotFoundError(
                f"There is no run {run_id}; of each choice of datasets the last two are kept. "
                "GET /api/duplicates lists them.",
                run=run_id,
            )
        return _run(row)

    def duplicate_runs(self, offset: int = 0, limit: int = 100) -> list[DuplicateRunRecord]:
        """All runs that are kept, newest first."""
        query = select(_RUNS).order_by(_RUNS.c.id.desc()).offset(offset).limit(limit)
        with self.read() as db:
            return [_run(row) for row in db.execute(query).mappings()]

    def last_duplicates(self, dataset_ids: Collection[int]) -> DuplicateRunRecord | None:
        """The newest run over these datasets that is done."""
        query = (
            select(_RUNS)
            .where(_RUNS.c.scope == scope_of(dataset_ids), _RUNS.c.state == DONE)
            .order_by(_RUNS.c.id.desc())
            .limit(1)
        )
        with self.read() as db:
            row = db.execute(query).mappings().first()
        return None if row is None else _run(row)

    def interrupted_duplicates(self) -> list[DuplicateRunRecord]:
        """Runs that were under way when the controller ended."""
        with self.read() as db:
            running = select(_RUNS).where(_RUNS.c.state == RUNNING).order_by(_RUNS.c.id)
            rows = db.execute(running).mappings()
            return [_run(row) for row in rows]

    def forget_duplicates(self, dataset_ids: Collection[int]) -> None:
        """Remove the runs over these datasets but the last two that are done and any newer."""
        ours = select(_RUNS.c.id).where(_RUNS.c.scope == scope_of(dataset_ids))
        with self.read() as db:
            done = ours.where(_RUNS.c.state == DONE).order_by(_RUNS.c.id.desc())
            kept = [row[0] for row in db.execute(done.limit(_KEPT_RUNS))]
            if len(kept) < _KEPT_RUNS:
                return
            old = [row[0] for row in db.execute(ours.where(_RUNS.c.id < kept[-1]))]
        for run_id in old:
            self.forget_groups(run_id)
            with self.write(searchable=False) as db:
                db.execute(delete(_RUNS).where(_RUNS.c.id == run_id))

    def forget_groups(self, run_id: int) -> None:
        """Remove the groups of a run, a part at a time, so that others can write meanwhile."""
        while True:
            with self.write(searchable=False) as db:
                query = select(func.min(_GROUPS.c.number)).where(_GROUPS.c.run_id == run_id)
                first = db.scalar(query)
                if first is None:
                    return
                for table in (_MEMBERS, _GROUPS):
                    these = (table.c.run_id == run_id) & (table.c.number < first + _GROUPS_AT_ONCE)
                    db.execute(delete(table).where(these))

    # --- groups ------------------------------------------------------------------------------

    def write_groups(self, run_id: int, first: int, groups: Sequence[FoundGroup]) -> None:
        """Write groups of a running run; ``first`` is the number of the first of them.

        Numbers and ranks that are there stay as they are.
        """
        numbered = list(enumerate(groups, first))
        columns = ["run_id", "number", "tier", "state", "keeper_id", "similarity", "images"]
        columns += ["hidden", "freed_bytes"]
        rows = [(run_id, number, *_facts(group)) for number, group in numbered]
        of_member = ["run_id", "number", "rank", "image_id", "content_hash", "tier", "cosine"]
        of_member += ["similarity", "hidden"]
        members = [
            (run_id, number, rank, m.image_id, m.content_hash, m.tier, m.cosine, m.similarity,
             m.hidden)
            for number, group in numbered
            for rank, m in enumerate(group.members)
        ]  # fmt: skip
        with self.write(searchable=False) as db:
            insert_rows(db, _GROUPS, columns, rows, key=["run_id", "number"])
            insert_rows(db, _MEMBERS, of_member, members, key=["run_id", "number", "rank"])

    def groups(
        self,
        run_id: int,
        *,
        states: Sequence[str] = (OPEN,),
        tiers: Sequence[str] = TIERS,
        offset: int = 0,
        limit: int = 100,
        after: int = 0,
    ) -> list[DuplicateGroupRecord]:
        """Groups of a run with their members, in order.

        Args:
            run_id: which run.
            states: of the groups wanted.
            tiers: of the groups wanted.
            offset: how many to pass over.
            limit: how many at most.
            after: only those with a greater number, which is quick however far one has come.
        """
        query = (
            select(_GROUPS)
            .where(*_chosen(run_id, states, tiers), _GROUPS.c.number > after)
            .order_by(_GROUPS.c.number)
            .offset(offset)
            .limit(limit)
        )
        with self.read() as db:
            found = [dict(row) for row in db.execute(query).mappings()]
            members = _members(db, run_id, [row["number"] for row in found])
        return [DuplicateGroupRecord(**row, members=members[row["number"]]) for row in found]

    def group(self, run_id: int, number: int) -> DuplicateGroupRecord:
        """A group of a run.

        Raises:
            NotFoundError: there is none.
        """
        self.duplicate_run(run_id)
        query = select(_GROUPS).where(_GROUPS.c.run_id == run_id, _GROUPS.c.number == number)
        with self.read() as db:
            row = db.execute(query).mappings().first()
            if row is None:
                raise NotFoundError(
                    f"Run {run_id} has no group {number}.", run=run_id, number=number
                )
            members = _members(db, run_id, [number])
        return DuplicateGroupRecord(**row, members=members[number])

    def count_groups(self, run_id: int) -> dict[tuple[str, str], tuple[int, int, int]]:
        """(state, tier) -> how many groups, files beside their keepers, and bytes of these."""
        query = (
            select(
                _GROUPS.c.state,
                _GROUPS.c.tier,
                func.count(),
                func.sum(_GROUPS.c.images - 1),
                func.sum(_GROUPS.c.freed_bytes),
            )
            .where(_GROUPS.c.run_id == run_id)
            .group_by(_GROUPS.c.state, _GROUPS.c.tier)
        )
        with self.read() as db:
            rows = db.execute(query)
            return {(row[0], row[1]): (row[2], int(row[3]), int(row[4])) for row in rows}

    def save_edits(self, run_id: int, number: int, edits: Mapping[int, str]) -> None:
        """Keep what was done to members: rank -> edit."""
        with self.write(searchable=False) as db:
            for rank, edit in edits.items():
                this = (_MEMBERS.c.run_id == run_id) & (_MEMBERS.c.number == number)
                db.execute(update(_MEMBERS).where(this, _MEMBERS.c.rank == rank).values(edit=edit))


def _run(row: Mapping[Any, Any]) -> DuplicateRunRecord:
    facts = {name: value for name, value in row.items() if name != "scope"}
    ids = tuple(int(key) for key in facts.pop("dataset_ids").split(",") if key)
    return DuplicateRunRecord(**facts, dataset_ids=ids)


def _facts(group: FoundGroup) -> tuple[Any, ...]:
    """tier, state, keeper_id, similarity, images, hidden, freed_bytes."""
    everyone = group.state == DISMISSED
    shown = [m for m in group.members if everyone or not m.hidden]
    others = shown[1:]
    return (
        _weakest(m.tier for m in others),
        group.state,
        group.members[0].image_id,
        min(m.similarity for m in others),
        len(shown),
        len(group.members) - len(shown),
        sum(m.size for m in others),
    )


def _weakest(tiers: Iterable[str]) -> str:
    return TIERS[max(TIERS.index(tier) for tier in tiers)]


def _chosen(run_id: int, states: Sequence[str], tiers: Sequence[str]) -> list[Any]:
    chosen = [_GROUPS.c.run_id == run_id, _GROUPS.c.state.in_(states)]
    return chosen if set(tiers) == set(TIERS) else [*chosen, _GROUPS.c.tier.in_(tiers)]


def _members(
    db: Connection, run_id: int, numbers: Sequence[int]
) -> dict[int, tuple[DuplicateMemberRecord, ...]]:
    found: dict[int, list[DuplicateMemberRecord]] = {number: [] for number in numbers}
    rows: list[Any] = []
    for chunk in chunks(numbers):
        these = (_MEMBERS.c.run_id == run_id) & _MEMBERS.c.number.in_(chunk)
        query = select(_MEMBERS).where(these).order_by(_MEMBERS.c.number, _MEMBERS.c.rank)
        rows += db.execute(query).mappings()
    images: dict[int, ImageRecord] = {}
    for chunk in chunks([row["image_id"] for row in rows]):
        query = images_query(Image.content_hash).where(Image.id.in_(chunk))
        images.update({row["id"]: ImageRecord(**row) for row in db.execute(query).mappings()})
    reference = set(db.scalars(select(Dataset.id).where(Dataset.reference)))
    for row in rows:
        facts = {name: value for name, value in row.items() if name not in ("run_id", "number")}
        image = images.get(row["image_id"])
        found[row["number"]].append(
            DuplicateMemberRecord(
                **facts,
                image=image,
                reference=image is not None and image.dataset_id in reference,
            )
        )
    return {number: tuple(members) for number, members in found.items()}
