"""From the REST API's answers to records."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

_T = TypeVar("_T")


def make(kind: type[_T], facts: dict[str, Any]) -> _T:
    """A record of some of the facts in an answer; a newer controller may say more."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in facts.items() if name in names})
