"""/api/index: how the indexes of the models in use are, and tuning them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from futu.catalogue.records import ModelRecord
from futu.controller.routes.fields import json_object, number, text
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.index.live import LiveIndex
from futu.index.policy import RECALL
from futu.models.spec import QUESTIONS


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("index", __name__, url_prefix="/api/index")

    def in_use() -> list[tuple[ModelRecord, LiveIndex]]:
        """By question."""
        models = controller.serving.in_use().values()
        found = [(m, controller.indexes.of_model.get(m.model_id)) for m in models]
        found.sort(key=lambda one: (QUESTIONS.index(one[0].question), one[0].model_id))
        return [(model, live) for model, live in found if live is not None]

    @routes.get("")
    def index() -> Response:
        found = in_use()
        for _, live in found:
            live.keeper.latest()
        return jsonify(
            {"indexes": [{"question": m.question, "model": m.name, **i.facts()} for m, i in found]}
        )

    @routes.post("/tune")
    def tune() -> tuple[Response, int]:
        body = json_object()
        recall = number("recall", body.get("recall", RECALL), 0.5, 0.999, whole=False)
        field = "question" if body.get("model") is None else "model"
        name = text(body, field) if field in body else QUESTIONS[0]
        found = in_use()
        chosen = [(m, i) for m, i in found if name in _names(m, field)]
        if not chosen:
            known = dict.fromkeys(_names(model, field)[0] for model, _ in found)
            raise InvalidRequestError(
                f"The field {field} is {name[:80]!r}; it must be one of {', '.join(known)}: those "
                "that have an index.",
                field=field,
            )
        for _, live in chosen:
            live.keeper.rebuild("asked for", recall)
        model_ids = [model.model_id for model, _ in chosen]
        return jsonify({"model_ids": model_ids, "recall": recall}), 202

    return routes


def _names(model: ModelRecord, field: str) -> tuple[str, ...]:
    return (model.question,) if field == "question" else (model.name, model.model_id)
