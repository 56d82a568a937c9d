"""/api/watch and /api/verify."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu.catalogue.records import DatasetRecord
from futu.controller.relay import by_leader
from futu.controller.routes.fields import flag, json_object, number, texts
from futu.controller.service import Controller

_MAX_DATASETS = 1000
_MAX_PAGE = 1000


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("watching", __name__, url_prefix="/api")

    def described(dataset: DatasetRecord) -> dict[str, Any]:
        state = controller.watcher.state(dataset.id)
        return {"dataset": dataset.name, "how": state.how, "message": state.message}

    @routes.get("/watch")
    @by_leader
    def watched() -> Response:
        listed = [d for d in controller.catalogue.datasets() if d.watched]
        return jsonify({"watched": [described(dataset) for dataset in listed]})

    @routes.post("/watch/<dataset_name>")
    @by_leader
    def watch(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        controller.watcher.watch(dataset)
        return jsonify(described(dataset))

    @routes.delete("/watch/<dataset_name>")
    @by_leader
    def unwatch(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        watched = controller.watcher.unwatch(dataset)
        return jsonify({**described(dataset), "was_watched": watched})

    def answer() -> Response:
        offset = int(number("offset", request.args.get("offset", 0), 0, 10**9))
        limit = int(number("limit", request.args.get("limit", 100), 1, _MAX_PAGE))
        run = controller.verifier.last
        if run is None:
            return jsonify({"state": "none", "message": "Nothing was verified yet."})
        return jsonify(run.described(offset, limit))

    @routes.post("/verify")
    @by_leader
    def verify() -> Response:
        body = json_object()
        chosen = None
        if body.get("dataset_names") is not None:
            names = texts(body, "dataset_names", _MAX_DATASETS)
            chosen = [controller.dataset(name) for name in dict.fromkeys(names)]
        deep, repair = flag(body, "deep", False), flag(body, "repair", False)
        controller.verifier.start(chosen, deep=deep, repair=repair)
        return answer()

    @routes.get("/verify")
    @by_leader
    def progress() -> Response:
        return answer()

    @routes.delete("/verify")
    @by_leader
    def cancel() -> Response:
        return jsonify({"cancelled": controller.verifier.cancel()})

    return routes
