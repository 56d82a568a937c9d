"""/api/index: how the indexes are, and tuning them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from futu.controller.routes.fields import json_object, number
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.index.policy import RECALL


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("index", __name__, url_prefix="/api/index")

    @routes.get("")
    def index() -> Response:
        for live in controller.indexes.values():
            live.keeper.latest()
        found = [
            {"question": question, **live.facts()} for question, live in controller.indexes.items()
        ]
        return jsonify({"indexes": found})

    @routes.post("/tune")
    def tune() -> tuple[Response, int]:
        body = json_object()
        recall = number("recall", body.get("recall", RECALL), 0.5, 0.999, whole=False)
        questions = list(controller.indexes)
        question = body.get("question", questions[0])
        if question not in questions:
            raise InvalidRequestError(
                f"The field question is {str(question)[:80]!r}; it must be one of "
                f"{', '.join(questions)}.",
                field="question",
            )
        controller.indexes[question].keeper.rebuild("asked for", recall)
        return jsonify({"question": question, "recall": recall}), 202

    return routes
