"""POST /api/compute/...: feature vectors for their own sake."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, jsonify

from futu.controller.access import reading
from futu.controller.routes.fields import json_object, number, text, texts
from futu.controller.service import Controller
from futu.errors import FutuError, JobTimeoutError
from futu.images.folder import display, read_bytes
from futu.jobs.message import ImageItem, ItemResult
from futu.models.spec import Question

_MAX_PATHS = 1000
_PIECE_BYTES = 8 * 1024 * 1024
_MAX_TIMEOUT_S = 3600.0


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("compute", __name__, url_prefix="/api/compute")

    def item_of(path: str) -> ImageItem:
        # By bytes, since the compute server may be on a machine that does not have the file.
        real = controller.roots.resolve_file(path)
        return ImageItem(data=read_bytes(real, controller.limits), name=display(path))

    def question_of(body: dict[str, Any]) -> Question:
        if body.get("model") is None:
            return "similar"
        return controller.search.question_of(text(body, "model"))

    def success(result: ItemResult, question: Question) -> dict[str, Any]:
        vector = controller.search.vector_of(result, question)
        return {
            "success": True,
            "feature": vector.tolist(),
            "dimension": len(vector),
            "model_id": controller.search.model_id(question),
            "width": result.width,
            "height": result.height,
        }

    def finish(
        entries: list[dict[str, Any]],
        piece: Sequence[tuple[int, ImageItem]],
        deadline: float,
        timeout_s: float,
        question: Question,
    ) -> None:
        """Write what comes of a piece of the batch into the entries it belongs to."""
        try:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise JobTimeoutError(
                    f"The batch was not done within {timeout_s:g} s. Allow more with timeout.",
                    timeout_s=timeout_s,
                )
            items = [item for _, item in piece]
            results = controller.search.extract(items, "inline", left_s, question)
        except JobTimeoutError as error:
            for index, _ in piece:
                entries[index].update(_failure(error))
            return
        for (index, _), result in zip(piece, results):
            try:
                entries[index].update(success(result, question))
            except FutuError as error:
                entries[index].update(_failure(error))

    @routes.post("/feature_extraction")
    @reading
    def feature_extraction() -> Response:
        body = json_object()
        path = text(body, "image_path")
        timeout_s = controller.settings.feature_timeout
        if "timeout" in body:
            timeout_s = number("timeout", body["timeout"], 0.001, _MAX_TIMEOUT_S, whole=False)
        question = question_of(body)
        (result,) = controller.search.extract([item_of(path)], "query", timeout_s, question)
        return jsonify({"image_path": path, **success(result, question)})

    @routes.post("/batch_feature_extraction")
    @reading
    def batch_feature_extraction() -> Response:
        body = json_object()
        paths = texts(body, "image_paths", _MAX_PATHS)
        timeout_s = controller.settings.batch_feature_timeout
        if "timeout" in body:
            timeout_s = number("timeout", body["timeout"], 0.001, _MAX_TIMEOUT_S, whole=False)
        question = question_of(body)
        entries: list[dict[str, Any]] = [{"image_path": path} for path in paths]
        deadline = time.monotonic() + timeout_s
        piece: list[tuple[int, ImageItem]] = []
        held = 0
        for index, path in enumerate(paths):
            try:
                item = item_of(path)
            except FutuError as error:
                entries[index].update(_failure(error))
            else:
                piece.append((index, item))
                held += len(item.data or b"")
            full = len(piece) >= controller.settings.batch_size or held >= _PIECE_BYTES
            if piece and (full or index == len(paths) - 1):
                finish(entries, piece, deadline, timeout_s, question)
                piece, held = [], 0
        model_id = controller.search.model_id(question)
        return jsonify({"results": entries, "model_id": model_id})

    return routes


def _failure(error: FutuError) -> dict[str, Any]:
    return {
        "success": False,
        "error": error.message,
        "code": error.code,
        "details": error.details,
    }
