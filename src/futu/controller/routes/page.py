"""The page at /."""

from __future__ import annotations

from flask import Blueprint, render_template

from futu.controller.service import Controller


def blueprint(_controller: Controller) -> Blueprint:
    """The routes."""
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def index() -> str:
        return render_template("index.html")

    return routes
