"""Reading the fields of a request; a wrong one is named with its value and what is allowed."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from futu.errors import InvalidRequestError
from futu.models.spec import QUESTIONS, Question, with_similar


def json_object() -> dict[str, Any]:
    """The request's body as a JSON object.

    Raises:
        InvalidRequestError: it is not one.
    """
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise InvalidRequestError(
            'The body must be a JSON object, for example {"name": "holiday"}.'
        )
    return body


def text(body: dict[str, Any], name: str) -> str:
    """A field that must be a text that is not empty."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"The field {name} must be a text that is not empty.", field=name)
    return value


def texts(body: dict[str, Any], name: str, most: int) -> list[str]:
    """A field that must be a list of texts, 1 to ``most`` of them."""
    value = body.get(name)
    good = isinstance(value, list) and 1 <= len(value) <= most
    if not good or not all(isinstance(v, str) and v for v in value or ()):
        raise InvalidRequestError(
            f"The field {name} must be a list of 1 to {most} texts.", field=name, most=most
        )
    assert isinstance(value, list)  # noqa: S101 - for the type checker
    return value


def questions(body: dict[str, Any]) -> tuple[Question, ...] | None:
    """The field questions; None when it is left out. ``similar`` is always one of them."""
    if body.get("questions") is None:
        return None
    given = texts(body, "questions", len(QUESTIONS))
    known = [question for question in QUESTIONS if question in given]
    if not set(given) <= set(known):
        raise InvalidRequestError(
            f"The field questions must be a list of {', '.join(QUESTIONS)}.", field="questions"
        )
    return with_similar(known)


def flag(body: dict[str, Any], name: str, default: bool) -> bool:
    """A field that may be left out and must otherwise be true or false."""
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"The field {name} must be true or false.", field=name)
    return value


def number(name: str, raw: Any, low: float, high: float, *, whole: bool = True) -> float:
    """A number in a range, both ends allowed."""
    kind = "a whole number" if whole else "a number"
    try:
        value = float(raw) if not isinstance(raw, bool) else float("nan")
    except (TypeError, ValueError):
        value = float("nan")
    if not (low <= value <= high) or (whole and value != int(value)):
        raise InvalidRequestError(
            f"The field {name} is {str(raw)[:40]!r}; it must be {kind} from {low:g} to {high:g}.",
            field=name,
            low=low,
            high=high,
        )
    return value


class Fields:
    """The fields of a request that may be a form or a JSON object.

    A field of several values is a list in JSON; in a form it is repeated, with or without ``[]``
    after its name.

    Raises:
        InvalidRequestError: the body says that it is JSON and is no object.
    """

    def __init__(self) -> None:
        self._body = json_object() if request.is_json else None
        self._form: MultiDict[str, str] = MultiDict() if request.is_json else request.form

    def one(self, name: str) -> Any:
        """A value; None when it is left out or empty."""
        if self._body is None:
            return self._form.get(name) or None
        value = self._body.get(name)
        return None if value == "" else value

    def many(self, name: str) -> list[Any]:
        """All values, without empty ones."""
        if self._body is None:
            given: Any = self._form.getlist(f"{name}[]") + self._form.getlist(name)
        else:
            given = self._body.get(name, [])
            given = given if isinstance(given, list) else [given]
        return [value for value in given if value not in (None, "")]

    def word(self, name: str) -> str | None:
        """A text, or None."""
        value = self.one(name)
        if value is None:
            return None
        try:
            os.fsencode(value)
        except (TypeError, UnicodeEncodeError):
            value = "\0"
        if "\0" in value:
            raise InvalidRequestError(f"The field {name} must be a text.", field=name)
        return str(value)

    def number(self, name: str, low: float, high: float, *, whole: bool = True) -> float | None:
        """A number in a range, or None."""
        value = self.one(name)
        return None if value is None else number(name, value, low, high, whole=whole)

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number in a range, or None."""
        value = self.number(name, low, high)
        return None if value is None else int(value)

    def time_ns(self, name: str) -> int | None:
        """A date or a time, in nanoseconds since the epoch, or None."""
        value = self.word(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        except (ValueError, OverflowError, OSError):
            raise InvalidRequestError(
                f"The field {name} is {value[:40]!r}; it must be a date or time like 2024-05-31, "
                "2024-05-31T18:00 or 2024-05-31T18:00+02:00 (without an offset: the controller's "
                "own time zone).",
                field=name,
            ) from None
        most = 2**63 - 1
        return max(-most, min(most, since // timedelta(microseconds=1) * 1000))
