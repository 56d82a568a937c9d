"""What is asked when several controllers share a catalogue: who leads, and what has changed."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from sqlalchemy import func, select

from futu.catalogue.records import Ids
from futu.catalogue.schema import Build, Fact, Vector
from futu.catalogue.session import CHANGES, LEADING_TERM, Session, Term, count_up


class LeadQueries(Session):
    """Terms of leaders, and what the other controllers have written."""

    def begin_term(self, most_s: float = 5.0) -> Term:
        """Begin to lead. From now on every write in an earlier term is refused.

        Args:
            most_s: see ``Term``.
        """
        with self.write(searchable=False) as db:
            return Term(count_up(db, self.insert_or(Fact), LEADING_TERM), most_s)

    def leads(self, term: Term) -> bool:
        """Whether a term is the last one begun."""
        with self.read() as db:
            number = db.scalar(select(Fact.value).where(Fact.name == LEADING_TERM))
        return number == str(term.number)

    def agree(self, name: str, value: str) -> str:
        """What all controllers have as a fact: the first one's value."""
        with self.write(searchable=False) as db:
            db.execute(self.insert_or(Fact).values(name=name, value=value).on_conflict_do_nothing())
            return str(db.scalar(select(Fact.value).where(Fact.name == name)))

    def writes(self) -> int:
        """How many transactions all controllers have written to a shared catalogue."""
        with self.read() as db:
            return int(db.scalar(select(Fact.value).where(Fact.name == CHANGES)) or 0)

    def last_vector_id(self) -> int:
        """The highest id of a vector; 0: there are none. Ids ascend in the order of commits."""
        with self.read() as db:
            return int(db.scalar(select(func.max(Vector.id))) or 0)

    def new_vectors(self, after: int) -> dict[str, Ids]:
        """model_id -> ids, ascending, of the vectors with an id above ``after``."""
        query = select(Vector.model_id, Vector.id).where(Vector.id > after).order_by(Vector.id)
        found: dict[str, list[int]] = {}
        with self.read() as db:
            for model_id, vector_id in db.execute(query):
                found.setdefault(model_id, []).append(vector_id)
        return {model_id: np.array(ids, np.int64) for model_id, ids in found.items()}

    def last_end(self) -> datetime | None:
        """When the last build that has ended did so."""
        with self.read() as db:
            return db.scalar(select(func.max(Build.finished_at)))
