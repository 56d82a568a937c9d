"""GET /health and /health/live."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu import __version__
from futu.controller.service import Controller
from futu.errors import CatalogueUnavailableError, FutuError, IndexUnavailableError
from futu.jobs.connection import probe


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
    similar = controller.indexes["similar"]
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
    unsaved = [live.save_error for live in controller.indexes.values() if live.save_error]
    if unsaved:
        status = "degraded" if status == "healthy" else status
        facts.setdefault("message", f"{unsaved[0]} Make room; it is tried again.")
    facts["index"] = {
        "status": "not saved" if similar.save_error else "ok",
        "model_id": similar.model_id,
        "kind": similar.index.kind,
    }
    facts["indexes"] = []
    try:
        facts["index"]["vectors"] = len(similar.index)
        facts["indexes"] = [
            {
                "question": question,
                "model_id": live.model_id,
                "kind": live.index.kind,
                "vectors": len(live.index),
                "recall": None if live.keeper.measured is None else live.keeper.measured.recall,
                "exact": live.searched_exactly,
                "doing": live.keeper.doing,
                "compute_servers": sum(live.model_id in s["model_ids"] for s in found),
            }
            for question, live in controller.indexes.items()
        ]
        if controller.leads and any(live.behind for live in controller.indexes.values()):
            facts["index"]["status"] = "behind"
    except IndexUnavailableError as error:
        status = "unavailable" if status == "unavailable" else "degraded"
        facts["index"] |= {"status": "down", "error": error.message}
        facts.setdefault("message", error.message)
    if controller.catalogue.shared:
        facts["leader"] = {"name": controller.leadership.holder(), "this": controller.leads}
    return facts, status
