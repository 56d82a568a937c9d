"""GET /metrics."""

from __future__ import annotations

from flask import Blueprint, Response, request

from futu.controller.metrics import Metrics


def blueprint(metrics: Metrics) -> Blueprint:
    """The route."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    def show() -> Response:
        body, content_type = metrics.text(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    return routes
