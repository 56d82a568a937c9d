"""POST /api/search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import Blueprint, Response

from futu.controller.access import reading
from futu.controller.neighbours import Neighbour, Page
from futu.controller.routes.files import image_url, thumbnail_url
from futu.controller.routes.search_fields import SearchRequest, read_search
from futu.controller.service import Controller
from futu.images.folder import display
from futu.models.spec import Question

_encode = msgspec.json.Encoder().encode


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("search", __name__)
    search = controller.search

    def page(asked: SearchRequest, question: Question) -> Page:
        search.check_indexed(asked.datasets, question)
        auto = asked.mode == "auto"
        vectors = controller.querying.vectors(
            asked.wanted,
            asked.unwanted,
            question,
            also=("copy",) if auto and search.is_indexed(asked.datasets, "copy") else (),
            timeout_s=controller.settings.feature_timeout,
            weight=asked.negative_weight,
            again=asked.offset > 0,
        )
        bounds: dict[str, Any] = {
            "k": asked.k,
            "offset": asked.offset,
            "min_similarity": asked.min_similarity,
        }
        if auto:
            return search.copies_first(vectors, asked.scope, **bounds)
        return search.page(vectors[question], asked.scope, question, **bounds)

    @routes.post("/api/search")
    @reading
    def post_search() -> Response:
        asked = read_search(controller)
        question: Question = "copy" if asked.mode == "copy" else "similar"
        found = page(asked, question)
        answer = {
            "results": [
                {
                    "idx": asked.offset + place,
                    **_described(neighbour),
                    "model_id": search.model_id(neighbour.match),
                    "generation": found.generation,
                    "description": "",
                }
                for place, neighbour in enumerate(found.neighbours)
            ],
            "mode": asked.mode,
            "model_id": search.model_id(question),
            "generation": found.generation,
            "offset": asked.offset,
            "next_offset": asked.offset + len(found.neighbours) if found.more else None,
        }
        return Response(_encode(answer), mimetype="application/json")

    return routes


def _described(neighbour: Neighbour) -> dict[str, Any]:
    image = neighbour.image
    path = display(image.path)
    return {
        "id": image.id,
        "fname": path,
        "path": path,
        "img_url": image_url(image),
        "thumbnail_url": thumbnail_url(image),
        "dataset": image.dataset,
        "dataset_id": image.dataset_id,
        "similarity": neighbour.similarity,
        "cosine": round(neighbour.cosine, 6),
        "match": neighbour.match,
        "width": image.width,
        "height": image.height,
        "size": image.size,
        "modified_at": _time(image.mtime_ns),
    }


def _time(mtime_ns: int) -> str | None:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None
