"""/api/jobs: what waits, what is under way, what was put aside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu.controller.relay import by_leader
from futu.controller.routes.fields import json_object, number, texts
from futu.controller.service import Controller
from futu.jobs.admin import Dead, JobState

_MAX_LISTED = 1000


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("jobs", __name__, url_prefix="/api/jobs")

    @routes.get("")
    def jobs() -> Response:
        limit = int(number("limit", request.args.get("limit", 100), 1, _MAX_LISTED))
        states = controller.jobs.jobs()
        live = [state for state in states if state.consumer is not None]
        waiting = [state for state in states if state.consumer is None]
        return jsonify(
            {
                "live": [_live(state) for state in live[:limit]],
                "waiting": [_waiting(state) for state in waiting[:limit]],
                "dead": [_dead(dead) for dead in controller.jobs.dead(limit=limit)],
                "counts": {
                    "live": len(live),
                    "waiting": len(waiting),
                    "dead": controller.jobs.dead_count(),
                },
            }
        )

    @routes.post("/retry")
    @by_leader
    def retry() -> Response:
        body = json_object()
        ids = texts(body, "ids", _MAX_LISTED) if body.get("ids") is not None else None
        return jsonify({"retried": controller.revive(ids)})

    @routes.post("/clear_stale_locks")
    def clear_stale_locks() -> Response:
        return jsonify({"cleared": controller.jobs.clear_stale_locks()})

    return routes


def _waiting(state: JobState) -> dict[str, Any]:
    names = [item.name for item in state.job.items]
    return {
        "job_id": state.job.job_id,
        "stream": state.stream,
        "images": len(names),
        "first_image": names[0] if names else "",
    }


def _live(state: JobState) -> dict[str, Any]:
    return {
        **_waiting(state),
        "worker": state.consumer,
        "silent_s": state.silent_s,
        "deliveries": state.deliveries,
    }


def _dead(dead: Dead) -> dict[str, Any]:
    letter = dead.letter
    return {
        "id": dead.entry_id.decode(),
        "job_id": letter.job.job_id,
        "image": letter.job.items[0].name if letter.job.items else "",
        "reason": letter.reason,
        "server": letter.server,
        "died_at": datetime.fromtimestamp(letter.died_at, UTC).isoformat(),
    }
