"""POST /api/search."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from futu.catalogue.records import DatasetRecord
from futu.controller.routes.fields import number
from futu.controller.routes.files import image_url
from futu.controller.service import Controller
from futu.errors import InvalidRequestError
from futu.images.folder import display
from futu.images.info import Box
from futu.models.spec import QUESTIONS, Question

MAX_K = 1000
_MAX_OFFSET = 100_000
_MAX_SIDE = 10**6


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("search", __name__)

    @routes.post("/api/search")
    def search() -> Response:
        form = request.form
        upload = request.files.get("query_img")
        if upload is None:
            raise InvalidRequestError(
                "The field query_img is missing: send the picture as multipart/form-data.",
                field="query_img",
            )
        question = _question(form.get("mode") or "similar")
        k = int(number("top_k", form.get("top_k", 10), 1, MAX_K))
        offset = int(number("offset", form.get("offset", 0), 0, _MAX_OFFSET))
        least = number("min_similarity", form.get("min_similarity", 0), 0, 100, whole=False)
        crop = _crop()
        datasets = controller.search.check_indexed(_datasets(controller), question)
        name = display(upload.filename or "the upload")
        data, timeout_s = upload.read(), controller.settings.feature_timeout
        found = controller.search.find(
            lambda model: controller.search.query_vector(data, crop, name, timeout_s, model),
            datasets,
            question,
            k=k,
            offset=offset,
            min_similarity=least,
        )
        results = [
            {
                "idx": offset + place,
                "id": neighbour.image.id,
                "fname": display(neighbour.image.path),
                "img_url": image_url(neighbour.image),
                "dataset": neighbour.image.dataset,
                "similarity": neighbour.similarity,
                "cosine": round(neighbour.cosine, 6),
                "width": neighbour.image.width,
                "height": neighbour.image.height,
                "model_id": neighbour.model_id,
                "description": "",
            }
            for place, neighbour in enumerate(found.neighbours)
        ]
        ids = list(found.model_ids)
        one = ids[0] if len(ids) == 1 else None
        facts = {"mode": question, "model_id": one, "model_ids": ids}
        return jsonify({"results": results, **facts})

    return routes


def _question(mode: str) -> Question:
    """The question that a mode asks."""
    if mode == "auto":
        return "similar"
    for question in QUESTIONS:
        if mode == question:
            return question
    raise InvalidRequestError(
        f"The mode {mode[:40]!r} is not one of: {', '.join(QUESTIONS)}, auto.", field="mode"
    )


def _datasets(controller: Controller) -> list[DatasetRecord]:
    """The datasets asked for, each once; all when none is named."""
    form = request.form
    names = [
        name
        for field in ("dataset_names[]", "dataset_names", "dataset_name")
        for name in form.getlist(field)
        if name
    ]
    if not names:
        return controller.catalogue.datasets()
    chosen = {dataset.id: dataset for dataset in map(controller.dataset, names)}
    return list(chosen.values())


def _crop() -> Box | None:
    """The crop; absent, or four zeros, means the whole picture."""
    fields = ("crop_x", "crop_y", "crop_w", "crop_h")
    values = [request.form.get(field) or 0 for field in fields]
    x, y, width, height = (
        int(float(number(field, value, -_MAX_SIDE, _MAX_SIDE, whole=False)))
        for field, value in zip(fields, values)
    )
    return None if (x, y, width, height) == (0, 0, 0, 0) else (x, y, width, height)
