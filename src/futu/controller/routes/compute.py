"""POST /api/compute/...: feature vectors for their own sake."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify

from futu.controller.routes.fields import json_object, number, text, texts
from futu.controller.service import Controller
from futu.errors import FutuError, JobTimeoutError
from futu.images.folder import display
from futu.jobs.message import ImageItem, ItemResult

_MAX_PATHS = 1000
_MAX_TIMEOUT_S = 3600.0


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("compute", __name__, url_prefix="/api/compute")

    def item_of(path: str) -> ImageItem:
        real = controller.roots.resolve_file(path)
        return ImageItem(path=os.fsencode(real), name=display(path))

    def success(result: ItemResult) -> dict[str, Any]:
        if result.error is not None:
            raise result.error.rebuild()
        vector = np.frombuffer(result.vector or b"", "<f4")
        return {
            "success": True,
            "feature": vector.tolist(),
            "dimension": len(vector),
            "model_id": controller.search.model_id,
            "width": result.width,
            "height": result.height,
        }

    @routes.post("/feature_extraction")
    def feature_extraction() -> Response:
        body = json_object()
        path = text(body, "image_path")
        timeout_s = controller.settings.feature_timeout
        if "timeout" in body:
            timeout_s = number("timeout", body["timeout"], 0.001, _MAX_TIMEOUT_S, whole=False)
        (result,) = controller.search.extract([item_of(path)], "query", timeout_s)
        return jsonify({"image_path": path, **success(result)})

    @routes.post("/batch_feature_extraction")
    def batch_feature_extraction() -> Response:
        body = json_object()
        paths = texts(body, "image_paths", _MAX_PATHS)
        timeout_s = controller.settings.batch_feature_timeout
        if "timeout" in body:
            timeout_s = number("timeout", body["timeout"], 0.001, _MAX_TIMEOUT_S, whole=False)
        entries: list[dict[str, Any]] = []
        items: list[tuple[int, ImageItem]] = []
        for index, path in enumerate(paths):
            entries.append({"image_path": path})
            try:
                items.append((index, item_of(path)))
            except FutuError as error:
                entries[index].update(_failure(error))
        deadline = time.monotonic() + timeout_s
        size = controller.settings.batch_size
        for start in range(0, len(items), size):
            piece = items[start : start + size]
            left_s = deadline - time.monotonic()
            try:
                if left_s <= 0:
                    raise JobTimeoutError(
                        f"The batch was not done within {timeout_s:g} s. Allow more with timeout.",
                        timeout_s=timeout_s,
                    )
                results = controller.search.extract([i for _, i in piece], "library", left_s)
            except JobTimeoutError as error:
                for index, _ in piece:
                    entries[index].update(_failure(error))
                continue
            for (index, _), result in zip(piece, results):
                try:
                    entries[index].update(success(result))
                except FutuError as error:
                    entries[index].update(_failure(error))
        return jsonify({"results": entries, "model_id": controller.search.model_id})

    return routes


def _failure(error: FutuError) -> dict[str, Any]:
    return {
        "success": False,
        "error": error.message,
        "code": error.code,
        "details": error.details,
    }
