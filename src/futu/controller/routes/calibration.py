"""/api/calibration/<dataset>: thresholds measured with the pictures of a dataset."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from futu.controller.duplicates.presets import LEAST
from futu.controller.routes.fields import json_object, number, text
from futu.controller.routes.files import image_url, thumbnail_url
from futu.controller.service import Controller
from futu.errors import NotFoundError
from futu.images.folder import display
from futu.models.similarity import PRESETS

_MOST = 1000


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("calibration", __name__, url_prefix="/api/calibration")

    @routes.get("/<dataset_name>")
    def calibration(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        found = controller.calibrations.of(dataset.id)
        if found is None:
            raise NotFoundError(
                f"Dataset {dataset.name} has not been calibrated; run futu calibrate "
                f"{dataset.name}.",
                dataset=dataset.name,
            )
        scale = controller.calibrations.scale([dataset.id])
        return jsonify(
            {
                "dataset": dataset.name,
                "model_id": found.model_id,
                "measured_at": found.measured_at.isoformat(timespec="seconds"),
                **found.facts,
                "similarities": {n: scale.similarity(c) for n, c in found.presets.items()},
            }
        )

    @routes.put("/<dataset_name>")
    def keep(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        facts: dict[str, Any] = json_object()
        controller.calibrations.keep(dataset.id, text(facts, "model_id"), facts)
        return calibration(dataset_name)

    @routes.delete("/<dataset_name>")
    def forget(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        return jsonify({"forgotten": controller.catalogue.forget_calibration(dataset.id)})

    @routes.get("/<dataset_name>/sample")
    def sample(dataset_name: str) -> Response:
        dataset = controller.dataset(dataset_name)
        count = int(number("count", request.args.get("count", 100), 1, _MOST))
        seed = int(number("seed", request.args.get("seed", 1), 0, 2**31))
        controller.search.check_indexed([dataset], "copy")
        chosen = controller.calibrations.sample(dataset.id, count, seed)
        images = [
            {
                "id": image.id,
                "path": display(image.path),
                "image_url": image_url(image),
                "thumbnail_url": thumbnail_url(image),
            }
            for image in chosen
        ]
        scale = controller.calibrations.scale([dataset.id])
        plain = {name: scale.cosine(shown) for name, shown in PRESETS.items()}
        return jsonify(
            {
                "images": images,
                "model_id": controller.calibrations.model_id([dataset.id]),
                "presets": plain,
                "similarity": scale.points,
                "least": scale.cosine(LEAST),
            }
        )

    return routes
