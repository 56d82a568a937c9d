"""Signing in on the page: a form, and a cookie that no script can read."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for

from futu.controller.access import COOKIE, Gate
from futu.controller.service import Controller
from futu.controller.tokens import SESSION_S
from futu.errors import TooManyAttemptsError

_MOST_FORM_BYTES = 4096


def blueprint(controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("login", __name__)
    gate: Gate = controller.gate

    def form(status: int, problem: str = "") -> Response:
        chinese = request.accept_languages.best_match(["en", "zh"], "en") == "zh"
        page = render_template("login.html", chinese=chinese, problem=problem)
        response = make_response(page, status)
        response.headers["Cache-Control"] = "no-store"
        return response

    @routes.get("/login")
    def show() -> Response:
        return form(200)

    @routes.post("/login")
    def login() -> Response:
        gate.check_origin(request)
        request.max_content_length = _MOST_FORM_BYTES
        try:
            role = gate.try_token(request, request.form.get("token", "").strip())
        except TooManyAttemptsError as error:
            response = form(error.status, "wait")
            response.headers["Retry-After"] = str(error.retry_after_s)
            return response
        if role is None:
            return form(401, "wrong")
        answer = make_response(redirect(url_for("page.index"), 303))
        answer.set_cookie(
            COOKIE,
            gate.tokens.session(role),
            max_age=SESSION_S,
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return answer

    @routes.post("/logout")
    def logout() -> Response:
        gate.check_origin(request)
        response = make_response(redirect(url_for("login.show"), 303))
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response

    return routes
