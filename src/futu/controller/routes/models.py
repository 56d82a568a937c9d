"""/api/models: which model serves which dataset, and changing that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify

from futu.catalogue.records import DatasetRecord, ModelRecord, ServedModels
from futu.catalogue.schema import BUILDING, PENDING
from futu.controller.relay import by_leader_within
from futu.controller.routes.fields import json_object, text, texts
from futu.controller.service import Controller
from futu.controller.switch import Switched
from futu.errors import InvalidRequestError
from futu.models.spec import QUESTIONS

_MAX_DATASETS = 1000
_CHANGE_S = 600.0
"""In which a big index is loaded, or vectors are pruned."""

_ROLES = ("serving", "coming", "former")


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("models", __name__, url_prefix="/api/models")

    def change(body: dict[str, Any], how: Callable[[DatasetRecord], Switched]) -> Response:
        names = texts(body, "dataset_names", _MAX_DATASETS)
        datasets = [controller.dataset(name) for name in names]
        return jsonify({"datasets": [_switched(dataset, how(dataset)) for dataset in datasets]})

    @routes.get("")
    def models() -> Response:
        users: dict[str, dict[str, list[str]]] = {}
        for dataset in controller.catalogue.datasets():
            for served in controller.serving.of(dataset).values():
                for role in _ROLES:
                    model: ModelRecord | None = getattr(served, role)
                    if model is not None:
                        roles = users.setdefault(model.model_id, {})
                        roles.setdefault(role, []).append(dataset.name)
        known = controller.catalogue.stored_models()
        known.update((m.model_id, m) for m in controller.serving.defaults.values())
        servers = controller.queue.servers.alive()
        listed = [
            {
                **asdict(model),
                "default": model in controller.serving.defaults.values(),
                "compute_servers": sum(model_id in s.model_ids for s in servers),
                **{role: users.get(model_id, {}).get(role, []) for role in _ROLES},
            }
            for model_id, model in sorted(known.items())
        ]
        return jsonify({"models": listed})

    @routes.post("/use")
    @by_leader_within(_CHANGE_S)
    def use() -> Response:
        body = json_object()
        model = controller.serving.named(text(body, "model"))
        return change(body, lambda dataset: controller.switch.use(dataset, model))

    @routes.post("/back")
    @by_leader_within(_CHANGE_S)
    def back() -> Response:
        body = json_object()
        question = body.get("question", "similar")
        if question not in QUESTIONS:
            raise InvalidRequestError(
                f"The field question is {str(question)[:40]!r}; it must be one of "
                f"{', '.join(QUESTIONS)}.",
                field="question",
            )
        return change(body, lambda dataset: controller.switch.back(dataset, question))

    @routes.post("/prune")
    @by_leader_within(_CHANGE_S)
    def prune() -> Response:
        body = json_object()
        if body.get("dataset_names") is None:
            datasets = controller.catalogue.datasets()
        else:
            names = texts(body, "dataset_names", _MAX_DATASETS)
            datasets = [controller.dataset(name) for name in names]
        pruned = controller.switch.prune(datasets)
        facts = {"vectors": pruned.vectors, "bytes": pruned.size_bytes}
        return jsonify({**facts, "model_ids": list(pruned.model_ids)})

    return routes


def models_of(
    controller: Controller, dataset: DatasetRecord, ready: int, progress: dict[str, Any]
) -> dict[str, Any]:
    """The models of a dataset by question, as GET /api/datasets describes them.

    Args:
        controller: that has it.
        dataset: which.
        ready: how many images are searchable.
        progress: of its build, as ``describe`` gives it.
    """

    def described(models: ServedModels) -> dict[str, Any]:
        facts = {role: _named(getattr(models, role)) for role in _ROLES}
        if models.coming is None:
            return facts
        under_way = controller.ingest.makes(dataset, models.coming.model_id)
        if not controller.leads:
            # Only the leader knows what a build makes; as good as all make what is coming.
            under_way = progress["status"] == BUILDING
        if under_way and progress["status"] in (BUILDING, PENDING):
            current, total = progress["current"], progress["total"]
        else:
            lacking = controller.lacking(dataset, models.coming.model_id)
            current, total = max(0, ready - lacking), ready
        percent = min(99, int(100 * current / total)) if total else 0
        done = {"progress": percent, "current": current, "total": total}
        return facts | {"coming": {**(facts["coming"] or {}), **done, "building": under_way}}

    return {q: described(models) for q, models in controller.serving.of(dataset).items()}


def _named(model: ModelRecord | None) -> dict[str, Any] | None:
    return None if model is None else {"model_id": model.model_id, "name": model.name}


def _switched(dataset: DatasetRecord, switched: Switched) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "question": switched.serving.question,
        "serving": _named(switched.serving),
        "coming": _named(switched.coming),
        "message": switched.message,
    }
