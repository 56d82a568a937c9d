"""Duplicates and images as the page of the older front end asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, jsonify

from futu.catalogue.duplicate_records import DuplicateGroupRecord
from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import DONE
from futu.controller.access import reading
from futu.controller.keeping import order_of
from futu.controller.relay import by_leader
from futu.controller.routes.fields import flag, json_object, number
from futu.controller.routes.files import image_url
from futu.controller.service import Controller
from futu.errors import InvalidRequestError, JobFailedError, JobTimeoutError, UnknownImageError
from futu.images.folder import display

_WAIT_S = 600.0
_SHARED_WAIT_S = 8.0
_OPERATION_WAIT_S = 5.0
_PAGE = 1000
_MOST_IDS = 10_000
_MOST_ID = 2**63


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("groups", __name__, url_prefix="/api")

    def found() -> tuple[list[DuplicateGroupRecord], dict[str, Any]]:
        """The open groups of a dataset, at the threshold asked for; and what was done with them."""
        body = json_object()
        key = body.get("index_id")
        if isinstance(key, bool) or not isinstance(key, (str, int)) or key == "":
            raise InvalidRequestError(
                "The field index_id must be the id or the name of a dataset.", field="index_id"
            )
        threshold = number("threshold", body.get("threshold", 90), 80, 100, whole=False)
        deduplicate = flag(body, "deduplicate", False)
        dataset = controller.dataset(key)
        run = controller.duplicates.fresh([dataset.id], threshold)
        # A controller that passes this on to the leader waits less; see ``relay``.
        if not run.ended.wait(_SHARED_WAIT_S if controller.catalogue.shared else _WAIT_S):
            raise JobTimeoutError(
                f"The search for duplicates in {dataset.name} goes on; ask again for its result, "
                f"or see GET /api/duplicates/{run.record.id}.",
                run=run.record.id,
            )
        if run.record.state != DONE:
            raise JobFailedError(run.record.message or "The search for duplicates was cancelled.")
        groups: list[DuplicateGroupRecord] = []
        while True:
            after = groups[-1].number if groups else 0
            page = controller.catalogue.groups(run.record.id, after=after, limit=_PAGE)
            groups += page
            if len(page) < _PAGE:
                break
        return groups, deduplicated(run.record.id) if deduplicate else {}

    def deduplicated(run_id: int) -> dict[str, Any]:
        """Move all but the keepers of a run's open groups to the trash."""
        operations = controller.operations
        order = order_of(controller.settings.keep_rules)
        rows = operations.plan(operations.groups_of_run(run_id), order).rows
        if not rows:
            return {"operation": None}
        operation = operations.apply(rows, _OPERATION_WAIT_S).operation
        return {"operation": operations.outcomes.operation(operation)}

    def answer(groups: Sequence[object], files: int, done: dict[str, Any]) -> Response:
        total = {"total_groups": len(groups), "total_duplicates": files - len(groups)}
        return jsonify({"groups": groups, **total, **done})

    @routes.post("/repeated_search")
    @by_leader
    def repeated_search() -> Response:
        records, done = found()
        groups = [[m.image_id for m in group.members if not m.hidden] for group in records]
        return answer(groups, sum(map(len, groups)), done)

    @routes.post("/get_duplicate_groups_with_images")
    @by_leader
    def with_images() -> Response:
        records, done = found()
        groups: list[dict[str, list[Any]]] = []
        for group in records:
            images = [m.image for m in group.members if not m.hidden and m.image is not None]
            groups.append(
                {"image_ids": [i.id for i in images], "images": [described(i) for i in images]}
            )
        return answer(groups, sum(len(group["images"]) for group in groups), done)

    @routes.get("/get_image_by_id/<int:image_id>")
    def by_id(image_id: int) -> Response:
        if image_id >= _MOST_ID:
            raise UnknownImageError(f"There is no image {image_id}.", id=image_id)
        return jsonify(described(controller.catalogue.image(image_id)))

    @routes.post("/get_images_by_ids")
    @reading
    def by_ids() -> Response:
        ids = json_object().get("image_ids")
        good = isinstance(ids, list) and len(ids) <= _MOST_IDS
        for key in ids if isinstance(ids, list) else ():
            good = good and isinstance(key, int) and not isinstance(key, bool)
            good = good and 0 < key < _MOST_ID
        if not good or not isinstance(ids, list):
            raise InvalidRequestError(
                f"The field image_ids must be a list of at most {_MOST_IDS} ids.", field="image_ids"
            )
        known = controller.catalogue.images_by_id(ids)
        return jsonify({"images": [described(known[key]) for key in ids if key in known]})

    return routes


def described(image: ImageRecord) -> dict[str, Any]:
    """An image with the fields of the older front end."""
    return {
        "id": image.id,
        "filename": display(image.path),
        "dataset_id": image.dataset_id,
        "dataset_name": image.dataset,
        "image_path": display(f"{image.folder}/{image.path}"),
        "image_url": image_url(image),
    }
