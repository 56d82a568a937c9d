"""POST /api/search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import Blueprint, Response

from futu.catalogue.records import ModelRecord
from futu.controller.access import reading
from futu.controller.neighbours import Neighbour
from futu.controller.routes.files import image_url, thumbnail_url
from futu.controller.routes.search_fields import read_search
from futu.controller.search import Vector
from futu.controller.service import Controller
from futu.images.folder import display
from futu.models.spec import Question

_encode = msgspec.json.Encoder().encode


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("search", __name__)

    @routes.post("/api/search")
    @reading
    def post_search() -> Response:
        asked = read_search(controller)
        question: Question = "copy" if asked.mode == "copy" else "similar"

        def vectors_of(
            needed: Sequence[ModelRecord], also: Sequence[ModelRecord]
        ) -> Mapping[str, Vector]:
            return controller.querying.vectors(
                asked.wanted,
                asked.unwanted,
                needed,
                also=also,
                timeout_s=controller.settings.feature_timeout,
                weight=asked.negative_weight,
                again=asked.offset > 0,
            )

        found = controller.search.find(
            vectors_of,
            asked.datasets,
            question,
            scope=asked.scope,
            copies_first=asked.mode == "auto",
            k=asked.k,
            offset=asked.offset,
            min_similarity=asked.min_similarity,
        )
        answer = {
            "results": [
                {
                    "idx": asked.offset + place,
                    **_described(neighbour),
                    "generation": found.generation,
                    "description": "",
                }
                for place, neighbour in enumerate(found.neighbours)
            ],
            "mode": asked.mode,
            "model_id": found.model_ids[0] if len(found.model_ids) == 1 else None,
            "model_ids": found.model_ids,
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
        "model_id": neighbour.model_id,
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
