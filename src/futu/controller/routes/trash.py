"""/api/duplicates/plan and /apply, /api/operations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu.controller.keeping import order_of
from futu.controller.planning import Group, Plan
from futu.controller.relay import by_leader
from futu.controller.routes.fields import json_object, number, text
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.trash.plan import from_records, to_csv

_MOST_GROUPS = 1_000_000
_MOST_PAGE = 1000
_WAIT_S = 5.0
"""For the end of an operation, before it is answered how far it is; see ``relay`` for the most."""
_MOST_ID = 2**63


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("trash", __name__, url_prefix="/api")

    def chosen(body: dict[str, Any]) -> Iterable[Group]:
        if body.get("run_id") is not None:
            run_id = int(number("run_id", body["run_id"], 1, 2**31 - 1))
            return controller.operations.groups_of_run(run_id)
        return controller.operations.groups(_groups(body))

    def planned(body: dict[str, Any]) -> Plan:
        wished = body.get("keep")
        if wished is not None and not isinstance(wished, list):
            raise InvalidRequestError("The field keep must be a list of rules.", field="keep")
        return controller.operations.plan(
            chosen(body), order_of(controller.settings.keep_rules if wished is None else wished)
        )

    def standing(operation: str) -> tuple[Response, int]:
        facts = controller.operations.outcomes.operation(operation)
        return jsonify({"operation": facts}), 202 if "current" in facts else 200

    @routes.post("/duplicates/plan")
    def plan() -> Response:
        body = json_object()
        kind = text(body, "format") if body.get("format") is not None else "json"
        if kind not in ("json", "csv"):
            raise InvalidRequestError(
                f"The field format is {kind[:40]!r}; it must be json or csv.", field="format"
            )
        made = planned(body)
        if kind == "csv":
            return Response(to_csv(made.rows), content_type="text/csv; charset=utf-8")
        return jsonify(_described(made))

    @routes.post("/duplicates/apply")
    @by_leader
    def apply() -> tuple[Response, int]:
        body = json_object()
        wait_s = number("wait", body.get("wait", _WAIT_S), 0, _WAIT_S, whole=False)
        rows = from_records(body["rows"]) if "rows" in body else planned(body).rows
        return standing(controller.operations.apply(rows, wait_s).operation)

    @routes.get("/operations")
    @by_leader
    def operations() -> Response:
        offset, limit = _page()
        found = controller.operations.outcomes.operations()[offset : offset + limit]
        return jsonify({"operations": found, "offset": offset, "limit": limit})

    @routes.get("/operations/<operation>")
    @by_leader
    def operation(operation: str) -> Response:
        offset, limit = _page()
        facts = controller.operations.outcomes.operation(operation)
        files = controller.operations.outcomes.files(operation, offset, limit)
        return jsonify({"operation": facts, "files": files, "offset": offset, "limit": limit})

    @routes.post("/operations/<operation>/undo")
    @by_leader
    def undo(operation: str) -> tuple[Response, int]:
        body = json_object() if request.get_data() else {}
        wait_s = number("wait", body.get("wait", _WAIT_S), 0, _WAIT_S, whole=False)
        images = None if body.get("image_ids") is None else _ids(body["image_ids"], "image_ids")
        return standing(controller.operations.undo(operation, images, wait_s).operation)

    return routes


def _page() -> tuple[int, int]:
    offset = int(number("offset", request.args.get("offset", 0), 0, 10**9))
    return offset, int(number("limit", request.args.get("limit", 100), 1, _MOST_PAGE))


def _groups(body: dict[str, Any]) -> list[list[int]]:
    groups = body.get("groups")
    if not isinstance(groups, list) or not 1 <= len(groups) <= _MOST_GROUPS:
        raise InvalidRequestError(
            "Give run_id, the number of a run that looked for duplicates, or groups, a list of "
            "lists of image ids.",
            field="groups",
        )
    return [_ids(group, "groups") for group in groups]


def _ids(value: object, field: str) -> list[int]:
    good = isinstance(value, list) and bool(value)
    for item in value if isinstance(value, list) else ():
        good = good and isinstance(item, int) and not isinstance(item, bool) and 0 < item < _MOST_ID
    if not good or not isinstance(value, list):
        raise InvalidRequestError(
            f"The field {field} must have lists of image ids that are not empty.", field=field
        )
    return value


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "groups": plan.groups,
        "images": plan.moved,
        "sidecars": plan.sidecars,
        "freed_bytes": plan.freed_bytes,
        "skipped": plan.skipped,
        "rows": [asdict(row) for row in plan.rows],
    }
