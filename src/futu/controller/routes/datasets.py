"""Datasets and their builds."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from futu.catalogue.records import DatasetRecord
from futu.controller.access import reading
from futu.controller.routes.fields import flag, json_object, questions, text
from futu.controller.routes.files import image_url, path_url
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.images.folder import display


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("datasets", __name__, url_prefix="/api")

    def described(dataset: DatasetRecord) -> dict[str, Any]:
        return {
            "id": dataset.id,
            "name": dataset.name,
            "folder": display(dataset.folder),
            "description": dataset.description,
            "questions": list(dataset.questions),
            "reference": dataset.reference,
            "watched": dataset.watched,
        }

    @routes.get("/datasets")
    def datasets() -> Response:
        controller.discover()
        counts = controller.catalogue.image_counts()
        firsts = controller.catalogue.first_images()
        listed = []
        for dataset in controller.catalogue.datasets():
            entry = described(dataset)
            if dataset.id in counts:
                entry["image_count"] = counts[dataset.id]
                entry["first_image_url"] = image_url(firsts[dataset.id])
            else:
                count, first = controller.overview(dataset)
                entry["image_count"] = count
                entry["first_image_url"] = path_url(dataset.name, first) if first else None
            entry["indexed"] = counts.get(dataset.id, 0)
            entry["status"] = controller.ingest.progress(dataset)["status"]
            listed.append(entry)
        return jsonify({"datasets": listed})

    @routes.post("/datasets")
    def register() -> tuple[Response, int]:
        body = json_object()
        name = text(body, "name") if body.get("name") is not None else None
        if name is not None and ("/" in name or len(name) > 255):
            raise InvalidRequestError("A dataset's name has no / and at most 255 characters.")
        dataset = controller.register(text(body, "folder"), name, questions(body))
        return jsonify(described(dataset)), 201

    @routes.patch("/datasets/<dataset_name>")
    def change(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        body = json_object()
        if "reference" not in body:
            raise InvalidRequestError(
                'Give what is to change, for example {"reference": true}.', field="reference"
            )
        reference = flag(body, "reference", False)
        controller.catalogue.set_reference(dataset.id, reference=reference)
        return jsonify(described(controller.catalogue.dataset(dataset.id)))

    @routes.post("/get_dataset_id")
    @reading
    def get_dataset_id() -> Response:
        dataset = controller.dataset(text(json_object(), "name"))
        return jsonify({"id": dataset.id, "name": dataset.name})

    return routes
