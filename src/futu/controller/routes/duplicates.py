"""/api/duplicates: runs that look for duplicates, and their groups."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu.catalogue.duplicate_records import (
    DuplicateGroupRecord,
    DuplicateMemberRecord,
    DuplicateRunRecord,
)
from futu.catalogue.duplicate_schema import GROUP_STATES, OPEN, RUNNING, TIERS
from futu.catalogue.schema import DONE
from futu.controller.duplicates.presets import LEAST, MOST, NORMAL
from futu.controller.relay import by_leader
from futu.controller.routes.fields import json_object, number, text, texts
from futu.controller.routes.files import image_url
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.images.folder import display

_MAX_DATASETS = 1000
_MAX_PAGE = 1000
_MAX_ID = 2**31 - 1


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("duplicates", __name__, url_prefix="/api/duplicates")

    def described(run: DuplicateRunRecord) -> dict[str, Any]:
        names = {dataset.id: dataset.name for dataset in controller.catalogue.datasets()}
        share = 100 if run.state != RUNNING else 0
        if run.state == RUNNING and run.total:
            share = min(99, 100 * run.current // run.total)
        return {
            "id": run.id,
            "datasets": [names[key] for key in run.dataset_ids if key in names],
            "preset": run.preset or None,
            "threshold": run.threshold,
            "model_id": run.model_id,
            "state": run.state,
            "stage": run.stage,
            "progress": share,
            "current": run.current,
            "total": run.total,
            "images": run.images,
            "groups": run.groups,
            "duplicates": run.duplicates,
            "freed_bytes": run.freed_bytes,
            "message": run.message,
            "started_at": run.started_at.isoformat() if run.started_at else None,
            "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        }

    @routes.post("")
    @by_leader
    def start() -> tuple[Response, int]:
        body = json_object()
        names = [d.name for d in controller.catalogue.datasets()]
        if body.get("dataset_names") is not None:
            names = texts(body, "dataset_names", _MAX_DATASETS)
        ids = [controller.dataset(name).id for name in names]
        if not ids:
            raise InvalidRequestError("There are no datasets yet; see GET /api/datasets.")
        threshold = None
        if body.get("threshold") is not None:
            threshold = number("threshold", body["threshold"], LEAST, MOST, whole=False)
        preset = text(body, "preset") if body.get("preset") is not None else NORMAL
        run = controller.duplicates.start(ids, preset, threshold)
        return jsonify(described(run.record)), 202

    @routes.get("")
    @by_leader
    def runs() -> Response:
        offset, limit = _page()
        found = [described(run) for run in controller.duplicates.runs(offset, limit)]
        return jsonify({"runs": found, "offset": offset, "limit": limit})

    @routes.get("/<int:run_id>")
    @by_leader
    def progress(run_id: int) -> Response:
        run = controller.duplicates.progress(_known(run_id))
        counts: dict[str, dict[str, int]] = {state: {} for state in GROUP_STATES}
        if run.state == DONE:
            for (state, tier), (groups, _, _) in controller.catalogue.count_groups(run.id).items():
                counts[state][tier] = groups
        return jsonify({**described(run), "counts": counts})

    @routes.delete("/<int:run_id>")
    @by_leader
    def cancel(run_id: int) -> Response:
        return jsonify({"cancelled": controller.duplicates.cancel(_known(run_id))})

    @routes.get("/<int:run_id>/groups")
    def groups(run_id: int) -> Response:
        offset, limit = _page()
        after = int(number("after", request.args.get("after", 0), 0, _MAX_ID))
        states, tiers = _chosen("state", GROUP_STATES, (OPEN,)), _chosen("tier", TIERS, TIERS)
        run = controller.catalogue.duplicate_run(_known(run_id))
        # What a run has written counts when it is done.
        counts = controller.catalogue.count_groups(run.id) if run.state == DONE else {}
        wanted = [c for (state, tier), c in counts.items() if state in states and tier in tiers]
        found = []
        if counts:
            found = controller.catalogue.groups(
                run.id, states=states, tiers=tiers, offset=offset, limit=limit, after=after
            )
        return jsonify(
            {
                "run": run.id,
                "run_state": run.state,
                "groups": [group_json(group) for group in found],
                "total_groups": sum(groups for groups, _, _ in wanted),
                "total_duplicates": sum(files for _, files, _ in wanted),
                "freed_bytes": sum(size for _, _, size in wanted),
                "offset": offset,
                "limit": limit,
            }
        )

    @routes.get("/<int:run_id>/groups/<int:number>")
    def group(run_id: int, number: int) -> Response:
        found = controller.catalogue.group(_known(run_id), min(number, _MAX_ID))
        return jsonify(group_json(controller.edits.of(found)))

    @routes.patch("/<int:run_id>/groups/<int:number>")
    def decide(run_id: int, number: int) -> Response:
        state = text(json_object(), "state")
        if state not in GROUP_STATES:
            raise InvalidRequestError(
                f"The field state is {state[:40]!r}; it must be one of {', '.join(GROUP_STATES)}.",
                field="state",
            )
        found = controller.catalogue.group(_known(run_id), min(number, _MAX_ID))
        controller.catalogue.decide(found.run_id, found.number, state)
        return jsonify(group_json(controller.catalogue.group(found.run_id, found.number)))

    return routes


def group_json(group: DuplicateGroupRecord) -> dict[str, Any]:
    """A group as the API has it."""
    return {
        "run": group.run_id,
        "number": group.number,
        "tier": group.tier,
        "state": group.state,
        "similarity": group.similarity,
        "image_count": group.images,
        "hidden_count": group.hidden,
        "freed_bytes": group.freed_bytes,
        "images": [_member(member) for member in group.members],
    }


def _member(member: DuplicateMemberRecord) -> dict[str, Any]:
    image = member.image
    facts: dict[str, Any] = {
        "id": member.image_id,
        "keeper": member.rank == 0,
        "tier": member.tier,
        "similarity": member.similarity,
        "cosine": round(member.cosine, 4),
        "reference": member.reference,
        "hidden": member.hidden,
        "present": member.unchanged,
        "edit": json.loads(member.edit) if member.edit else None,
        "content_hash": member.content_hash.hex(),
    }
    if image is not None:
        facts |= {
            "fname": display(image.path),
            "dataset": image.dataset,
            "img_url": image_url(image),
            "width": image.width,
            "height": image.height,
            "size": image.size,
            "mtime_ns": image.mtime_ns,
        }
    return facts


def _page() -> tuple[int, int]:
    offset = int(number("offset", request.args.get("offset", 0), 0, 10**9))
    return offset, int(number("limit", request.args.get("limit", 100), 1, _MAX_PAGE))


def _known(run_id: int) -> int:
    """A number that the database takes."""
    return min(run_id, _MAX_ID)


def _chosen(name: str, known: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
    given = request.args.get(name)
    if given is None:
        return default
    chosen = tuple(given.split(",")) if given != "all" else known
    if not set(chosen) <= set(known):
        raise InvalidRequestError(
            f"The field {name} is {given[:40]!r}; it must be all, or some of {', '.join(known)} "
            "with commas between them.",
            field=name,
        )
    return chosen
