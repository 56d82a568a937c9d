"""GET /health and /health/live."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu import __version__
from futu.controller.service import Controller
from futu.errors import CatalogueUnavailableError, FutuError, IndexUnavailableError
from futu.jobs.connection import probe
from futu.models.spec import QUESTIONS


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("status", __name__)

    @routes.get("/health")
    def health() -> tuple[Response, int]:
        facts, status = _health(controller)
        code = 503 if status == "unavailable" else 200
        if not controller.gate.sees_details(request):
            return jsonify({"status": status}), code
        return jsonify({"status": status, **facts}), code

    @routes.get("/health/live")
    def live() -> Response:
        return jsonify({"status": "alive"})

    return routes


def _health(controller: Controller) -> tuple[dict[str, Any], str]:
    status = "healthy"
    facts: dict[str, Any] = {"version": __version__}
    similar = controller.models["similar"]
    try:
        controller.queue.ping()
        probe(controller.queue.redis, controller.queue.url)
        servers = controller.queue.servers.alive()
        facts["redis"] = {"status": "ok"}
        facts["queue"] = {**controller.queue.depth(), "dead": controller.jobs.dead_count()}
        facts["compute_servers"] = [
            {
                "server": s.server,
                "host": s.host,
                "pid": s.pid,
                "model_ids": s.model_ids,
                "workers": s.workers,
                "images_done": s.images_done,
                "queries_done": s.queries_done,
                "images_per_s": s.images_per_s,
                "by_path": s.by_path,
                "version": s.version,
            }
            for s in servers
        ]
        if not any(similar.model_id in s.model_ids for s in servers):
            status = "degraded"
            facts["message"] = "No compute server is running. Start one with ./start.sh compute."
    except FutuError as error:
        status = "unavailable"
        facts["redis"] = {"status": "down", "error": error.message}
        facts["compute_servers"] = []
        facts["message"] = error.message
    try:
        controller.catalogue.ping()
        facts["catalogue"] = {"status": "ok", "datasets": len(controller.catalogue.datasets())}
    except CatalogueUnavailableError as error:
        status = "unavailable"
        facts["catalogue"] = {"status": "down", "error": error.message}
        facts["message"] = error.message
    found: list[dict[str, Any]] = facts["compute_servers"]
    in_memory = list(controller.indexes.of_model.values())
    unsaved = [live.save_error for live in in_memory if live.save_error]
    if unsaved:
        status = "degraded" if status == "healthy" else status
        facts.setdefault("message", f"{unsaved[0]} Make room; it is tried again.")
    facts["index"] = {"status": "not saved" if unsaved else "ok", "model_id": similar.model_id}
    facts["indexes"] = []
    try:
        facts["indexes"] = _indexes(controller, found)
        of_default = (i for i in facts["indexes"] if i["model_id"] == similar.model_id)
        index = next(of_default, facts["indexes"][0])
        facts["index"] |= {k: index[k] for k in ("model_id", "kind", "vectors")}
        if controller.leads and any(live.behind for live in in_memory):
            facts["index"]["status"] = "behind"
    except CatalogueUnavailableError:
        facts["index"]["status"] = "unknown"
    except IndexUnavailableError as error:
        status = "unavailable" if status == "unavailable" else "degraded"
        kind = in_memory[0].index.kind
        facts["index"] |= {"kind": kind, "status": "down", "error": error.message}
        facts.setdefault("message", error.message)
    if controller.catalogue.shared:
        facts["leader"] = {"name": controller.leadership.holder(), "this": controller.leads}
    return facts, status


def _indexes(controller: Controller, servers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the models in use, and of the defaults of questions that no dataset answers."""
    in_use = controller.serving.in_use()
    unused = [
        default
        for question, default in controller.serving.defaults.items()
        if all(model.question != question for model in in_use.values())
    ]
    found = []
    for model in sorted((*in_use.values(), *unused), key=lambda m: QUESTIONS.index(m.question)):
        live = controller.indexes.of_model.get(model.model_id)
        measured = live.keeper.measured if live is not None else None
        found.append(
            {
                "question": model.question,
                "model_id": model.model_id,
                "kind": live.index.kind if live is not None else None,
                "vectors": len(live.index) if live is not None else 0,
                "recall": measured.recall if measured is not None else None,
                "exact": live is None or live.searched_exactly,
                "doing": live.keeper.doing if live is not None else "",
                "compute_servers": sum(model.model_id in s["model_ids"] for s in servers),
            }
        )
    return found
