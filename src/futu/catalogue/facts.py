"""What the catalogue counts of itself: writes, changes of models, terms of leaders."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Text, cast, select, update

from futu.catalogue.schema import Fact
from futu.errors import NotLeadingError

VERSION = "version"
_ONE_MORE = cast(cast(Fact.value, BigInteger) + 1, Text)
COUNT_VERSION_UP = update(Fact).where(Fact.name == VERSION).values(value=_ONE_MORE)
"""Counts a transaction that may change which images are searchable."""

CHANGES, MODEL_CHANGES, LEADING_TERM = "changes", "model_changes", "leading_term"
"""Facts that count: the writes of all controllers to a shared catalogue, those of them that change
which models are in use, and the terms of leaders."""


class Steps:
    """A number that is another one after each step. Views of a catalogue share it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.at = 0

    def take(self) -> None:
        """Another number."""
        self.at = next(self._numbers)


def count_up(db: Connection, insert: Any, name: str) -> int:
    """Add 1 to a fact that counts; returns what it is then."""
    statement = insert.values(name=name, value="1").on_conflict_do_update(
        index_elements=["name"], set_={"value": _ONE_MORE}
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
