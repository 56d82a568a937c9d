"""Reading the fields of a request; a wrong one is named with its value and what is allowed."""

from __future__ import annotations

from typing import Any

from flask import request

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
