"""The Flask application: everything is passed in, one error body for every failure."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, jsonify, redirect, request, url_for
from flask_cors import CORS
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from futu import tracing
from futu.controller.access import RELAYED
from futu.controller.metrics import Metrics
from futu.controller.proxies import TrustedProxies
from futu.controller.routes import (
    builds,
    calibration,
    compute,
    datasets,
    duplicates,
    files,
    groups,
    index,
    jobs,
    known,
    login,
    models,
    page,
    search,
    status,
    trash,
    watching,
)
from futu.controller.routes import metrics as metrics_routes
from futu.controller.service import Controller
from futu.errors import FutuError, QueueFullError, TooManyAttemptsError, UnauthorisedError

log = logging.getLogger(__name__)

_ROUTES = (
    *(builds, calibration, compute, datasets, duplicates, files, groups, index, jobs, known),
    *(login, models, page, search, status, trash, watching),
)
_FORM_OVERHEAD_BYTES = 1024 * 1024
_HTTP_CODES = {400: "bad_field", 404: "not_found", 405: "bad_method", 413: "too_large"}
_PUBLIC = frozenset(
    {"status.health", "status.live", "login.show", "login.login", "login.logout", "static"}
)
_PAGE = "page.index"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with it a browser posts the sign-in form with the origin "null".
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
}


def create_app(controller: Controller) -> Flask:
    """The application for a controller.

    Args:
        controller: started or not; the routes use it.
    """
    app = Flask("futu.web", static_folder="static", template_folder="templates")
    app.config["MAX_CONTENT_LENGTH"] = controller.settings.max_image_bytes + _FORM_OVERHEAD_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = _FORM_OVERHEAD_BYTES
    app.debug = controller.settings.debug
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    for module in _ROUTES:
        app.register_blueprint(module.blueprint(controller))
    metrics = Metrics(controller)
    app.register_blueprint(metrics_routes.blueprint(metrics))
    settings, gate = controller.settings, controller.gate
    if settings.trusted_proxies:
        app.wsgi_app = TrustedProxies(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]
    embedding = "same-origin"
    if settings.cors_origins:
        embedding = "same-site"
        CORS(
            app,
            origins=list(settings.cors_origins),
            allow_headers=["Authorization", "Content-Type", tracing.HEADER],
            expose_headers=[tracing.HEADER],
            supports_credentials=True,
            max_age=600,
        )

    @app.before_request
    def admit() -> Response | None:
        g.started = time.monotonic()
        tracing.begin_request(request.headers.get(tracing.HEADER))
        view = app.view_functions.get(request.endpoint or "")
        if _is_preflight() and gate.is_configured(request.origin):
            return app.make_default_options_response()
        if request.endpoint not in _PUBLIC:
            try:
                gate.check(request, view)
            except UnauthorisedError:
                if request.endpoint != _PAGE:
                    raise
                return app.make_response(redirect(url_for("login.show"), 303))
        return controller.relay.forward(request, view)

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cross-Origin-Resource-Policy", embedding)
        if request.is_secure:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        response.headers[tracing.HEADER] = tracing.request_id()
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="futu"'
        took_s = time.monotonic() - g.get("started", time.monotonic())
        if RELAYED not in request.environ:
            rule = request.url_rule
            route = None if rule is None else rule.rule
            metrics.answered(request.method, route, response.status_code, took_s)
        level = logging.DEBUG if response.status_code < 400 else logging.INFO
        log.log(
            level,
            "%s %s %d %.0f ms",
            request.method,
            request.path,
            response.status_code,
            took_s * 1000,
        )
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        tracing.end_request()

    controller.relay.app = app
    app.register_error_handler(FutuError, _our_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def _body(message: str, code: str, details: object, status: int) -> tuple[Response, int]:
    return jsonify({"error": message, "code": code, "details": details}), status


def _our_error(error: FutuError) -> tuple[Response, int]:
    if error.status >= 500:
        log.warning("%s %s: %s", request.method, request.path, error)
    response, status = _body(error.message, error.code, error.details, error.status)
    if isinstance(error, QueueFullError | TooManyAttemptsError):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response, status


def _http_error(error: HTTPException) -> tuple[Response, int]:
    status = error.code or 500
    message = error.description or error.name
    if isinstance(error, RequestEntityTooLarge):
        message = (
            "The upload is larger than the limit. Make the picture smaller or raise "
            "FUTU_MAX_IMAGE_BYTES."
        )
    return _body(message, _HTTP_CODES.get(status, "http"), {}, status)


def _unexpected(error: Exception) -> tuple[Response, int]:
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    message = "Something went wrong inside Futu; the log has the details, by this request_id."
    return _body(message, "internal", {"request_id": tracing.request_id()}, 500)
