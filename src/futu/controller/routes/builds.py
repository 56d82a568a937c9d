"""/api/build_index and /api/builds."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request

from futu.catalogue.schema import FAILED, MISSING, QUARANTINED
from futu.controller.relay import by_leader
from futu.controller.routes.fields import flag, json_object, number, questions, texts
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.images.folder import display

_MAX_DATASETS = 1000
_MAX_PAGE = 1000
_REASONED = (FAILED, QUARANTINED, MISSING)


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("builds", __name__, url_prefix="/api")

    def page() -> tuple[int, int]:
        offset = int(number("offset", request.args.get("offset", 0), 0, 10**9))
        return offset, int(number("limit", request.args.get("limit", 100), 1, _MAX_PAGE))

    @routes.post("/build_index")
    @by_leader
    def build_index() -> Response:
        body = json_object()
        names = texts(body, "dataset_names", _MAX_DATASETS)
        flag(body, "distributed", True)
        retry_failed = flag(body, "retry_failed", False)
        confirm_missing = flag(body, "confirm_missing", False)
        answered = questions(body)
        chosen = [controller.dataset(name) for name in names]
        for dataset in chosen:
            controller.ingest.start(
                dataset,
                questions=answered,
                retry_failed=retry_failed,
                confirm_missing=confirm_missing,
            )
        progress = [
            {
                "dataset": dataset.name,
                "progress_file": f"/api/build_index/progress/{quote(dataset.name, safe='')}",
            }
            for dataset in chosen
        ]
        message = f"Indexing {len(chosen)} dataset(s)."
        return jsonify({"msg": message, "progress": progress})

    @routes.delete("/build_index/<dataset_name>")
    @by_leader
    def cancel(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        cancelled = controller.ingest.cancel(dataset)
        message = "Cancelling." if cancelled else "No build of this dataset is under way."
        return jsonify({"msg": message, "dataset": dataset.name, "cancelled": cancelled})

    @routes.get("/build_index/progress/<dataset_name>")
    @by_leader
    def progress(dataset_name: str) -> Response:
        return jsonify(controller.ingest.progress(controller.dataset(dataset_name)))

    @routes.get("/build_index/<dataset_name>/failures")
    def failures(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        offset, limit = page()
        state = request.args.get("state")
        if state is not None and state not in _REASONED:
            raise InvalidRequestError(
                f"The field state is {state[:40]!r}; it must be one of {', '.join(_REASONED)}.",
                field="state",
            )
        states = (FAILED, QUARANTINED) if state is None else (state,)
        found = controller.catalogue.failures(dataset.id, offset, limit, states)
        listed = [
            {"path": display(f.path), "code": f.code, "error": f.error, "state": f.state}
            for f in found
        ]
        return jsonify({"failures": listed, "offset": offset, "limit": limit})

    @routes.get("/builds")
    @by_leader
    def builds() -> Response:
        offset, limit = page()
        names = {dataset.id: dataset.name for dataset in controller.catalogue.datasets()}
        records = controller.catalogue.builds(offset, limit)
        listed = [
            {
                "dataset": names.get(record.dataset_id, ""),
                "started_at": record.started_at.isoformat() if record.started_at else None,
                "finished_at": record.finished_at.isoformat() if record.finished_at else None,
                **description,
            }
            for record, description in zip(records, controller.ingest.described(records))
        ]
        return jsonify({"builds": listed, "offset": offset, "limit": limit})

    return routes
