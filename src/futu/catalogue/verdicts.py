"""What people decided about images that were found to be duplicates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from futu.catalogue.duplicate_records import VerdictRecord
from futu.catalogue.duplicate_schema import (
    DISMISSED,
    OPEN,
    DuplicateGroup,
    DuplicateMember,
    Verdict,
    VerdictMember,
)
from futu.catalogue.schema import READY, Image
from futu.catalogue.session import Session, chunks, now

_GROUPS = cast(Table, DuplicateGroup.__table__)
_MEMBERS = cast(Table, DuplicateMember.__table__)
_VERDICTS = cast(Table, Verdict.__table__)
_DECIDED = cast(Table, VerdictMember.__table__)


class VerdictQueries(Session):
    """Decisions about images, and the groups that follow them."""

    def decide(self, run_id: int, number: int, state: str) -> None:
        """Set the state of a group, for this run and those to come.

        ``dismissed`` and ``resolved`` are remembered for all members of the group; groups of other
        runs that have no others follow. ``open`` forgets what was decided about two or more of
        the members.

        Args:
            run_id: a run.
            number: a group that it has.
            state: ``open``, ``resolved`` or ``dismissed``.
        """
        with self.write(searchable=False) as db:
            this = (_MEMBERS.c.run_id == run_id) & (_MEMBERS.c.number == number)
            query = select(_MEMBERS.c.image_id, _MEMBERS.c.content_hash).where(this)
            members = {row[0]: bytes(row[1]) for row in db.execute(query)}
            _forget(db, members)
            if state != OPEN:
                key = db.execute(
                    insert(Verdict).values(state=state, decided_at=now())
                ).inserted_primary_key
                assert key is not None  # noqa: S101 - an INSERT of one row has one
                rows = [
                    {"verdict_id": key[0], "image_id": image_id, "content_hash": digest}
                    for image_id, digest in members.items()
                ]
                db.execute(insert(_DECIDED), rows)
            _set_state(db, _within(db, members), state)

    def last_verdict(self) -> int:
        """The id of the newest verdict there has been; 0: there was none yet."""
        with self.read() as db:
            return int(db.scalar(select(func.max(_VERDICTS.c.id))) or 0)

    def verdicts(self) -> list[VerdictRecord]:
        """All that was decided, oldest first."""
        there = (Image.state == READY) & (Image.content_hash == _DECIDED.c.content_hash)
        members = (
            select(_DECIDED, Image.id.is_not(None))
            .outerjoin(Image, (Image.id == _DECIDED.c.image_id) & there)
            .order_by(_DECIDED.c.image_id)
        )
        with self.read() as db:
            states = db.execute(select(_VERDICTS.c.id, _VERDICTS.c.state)).all()
            found: dict[int, list[tuple[int, bytes, bool]]] = {key: [] for key, _ in states}
            for verdict_id, image_id, digest, is_there in db.execute(members):
                found[verdict_id].append((image_id, bytes(digest), bool(is_there)))
        return [VerdictRecord(key, state, tuple(found[key])) for key, state in sorted(states)]

    def follow_verdicts(self, after: int) -> int:
        """Let groups follow the verdicts that came after one.

        Returns:
            The newest.
        """
        with self.write(searchable=False) as db:
            query = select(_VERDICTS.c.id, _VERDICTS.c.state).where(_VERDICTS.c.id > after)
            newest = after
            for key, state in db.execute(query.order_by(_VERDICTS.c.id)).all():
                found = select(_DECIDED.c.image_id).where(_DECIDED.c.verdict_id == key)
                _set_state(db, _within(db, set(db.scalars(found))), state)
                newest = key
        return newest


def _forget(db: Connection, image_ids: Collection[int]) -> None:
    """Remove the verdicts about two or more of these images."""
    counts: dict[int, int] = {}
    for chunk in chunks(sorted(image_ids)):
        query = select(_DECIDED.c.verdict_id).where(_DECIDED.c.image_id.in_(chunk))
        for key in db.scalars(query):
            counts[key] = counts.get(key, 0) + 1
    gone = [key for key, count in counts.items() if count > 1]
    for part in chunks(gone):
        db.execute(delete(_DECIDED).where(_DECIDED.c.verdict_id.in_(part)))
        db.execute(delete(_VERDICTS).where(_VERDICTS.c.id.in_(part)))


def _within(db: Connection, image_ids: Collection[int]) -> list[tuple[int, int]]:
    """The groups, (run_id, number), of which all members are among these images."""
    inside: dict[tuple[int, int], int] = {}
    for chunk in chunks(sorted(image_ids)):
        query = select(_MEMBERS.c.run_id, _MEMBERS.c.number).where(_MEMBERS.c.image_id.in_(chunk))
        for row in db.execute(query):
            key = (row[0], row[1])
            inside[key] = inside.get(key, 0) + 1
    return [key for key, count in inside.items() if count == _count(db, *key)]


def _count(db: Connection, run_id: int, number: int) -> int:
    this = (_MEMBERS.c.run_id == run_id) & (_MEMBERS.c.number == number)
    return int(db.scalar(select(func.count()).select_from(_MEMBERS).where(this)) or 0)


def _set_state(db: Connection, groups: Sequence[tuple[int, int]], state: str) -> None:
    for run_id, number in groups:
        values: dict[str, Any] = {"state": state}
        this = (_MEMBERS.c.run_id == run_id) & (_MEMBERS.c.number == number)
        if state in (OPEN, DISMISSED):
            # Nothing is left out of a group that people look at again, or put aside as a whole.
            count = _count(db, run_id, number)
            others = select(func.sum(Image.size)).join(
                _MEMBERS, (_MEMBERS.c.image_id == Image.id) & (_MEMBERS.c.rank > 0)
            )
            freed = int(db.scalar(others.where(this)) or 0)
            values |= {"images": count, "hidden": 0, "freed_bytes": freed}
            db.execute(update(_MEMBERS).where(this).values(hidden=False))
        these = (_GROUPS.c.run_id == run_id) & (_GROUPS.c.number == number)
        db.execute(update(_GROUPS).where(these).values(**values))
