"""Who gets in: the application, asked as from here and as from elsewhere."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from futu import config
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.errors import SettingsError

ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    settings = config.load(
        data_dir=tmp_path / "data",
        datasets_dir=tmp_path / "datasets",
        redis_url=f"unix://{tmp_path}/nobody.sock",
    )
    made = Controller(settings)
    yield made
    made.stop()


@pytest.fixture
def http(controller: Controller) -> FlaskClient:
    return create_app(controller).test_client()


def ask(http: FlaskClient, environ: dict[str, str] | None = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.get("/api/datasets", environ_overrides=environ or {}, headers=named)


def test_program_on_this_machine_needs_no_token(http: FlaskClient) -> None:
    assert ask(http).status_code == 200


def test_other_machine_without_token_is_refused_on_every_route(http: FlaskClient) -> None:
    for path in ("/", "/api/datasets", "/static/app.js", "/api/image/x/1", "/nothing"):
        answer = http.get(path, environ_overrides=ELSEWHERE)
        assert answer.status_code == 401, path
        assert answer.get_json()["code"] == "no_token"
        assert "Basic" in answer.headers["WWW-Authenticate"]


def test_other_machine_with_the_token_gets_in(http: FlaskClient, controller: Controller) -> None:
    assert ask(http, ELSEWHERE, Authorization=f"Bearer {controller.token}").status_code == 200
    basic = base64.b64encode(f"anyone:{controller.token}".encode()).decode()
    assert ask(http, ELSEWHERE, Authorization=f"Basic {basic}").status_code == 200


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic eDp5", "Digest x", "é"])
def test_wrong_token_is_refused(http: FlaskClient, header: str) -> None:
    assert ask(http, ELSEWHERE, Authorization=header).status_code == 401


def test_request_through_a_proxy_is_not_local(http: FlaskClient) -> None:
    assert ask(http, X_Forwarded_For="127.0.0.1").status_code == 401


def test_name_that_resolves_here_is_not_local(http: FlaskClient) -> None:
    assert ask(http, Host="evil.example:19198").status_code == 401
    assert ask(http, Host="localhost:19198").status_code == 200
    assert ask(http, Host="[::1]:19198").status_code == 200


def test_page_of_another_site_is_refused(http: FlaskClient) -> None:
    assert ask(http, Origin="https://evil.example").status_code == 403
    assert ask(http, Origin="null").status_code == 403
    assert ask(http, Origin="http://localhost:19197").status_code == 200


def test_health_tells_strangers_only_the_status(http: FlaskClient) -> None:
    answer = http.get("/health", environ_overrides=ELSEWHERE)
    assert answer.get_json() == {"status": "unavailable"}
    assert "redis" in http.get("/health").get_json()


def test_token_is_made_once_and_readable_only_by_its_owner(
    controller: Controller, tmp_path: Path
) -> None:
    file = tmp_path / "data" / "api_token"
    assert file.read_text().strip() == controller.token
    assert len(controller.token) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_controllers_on_one_data_directory_are_refused(controller: Controller) -> None:
    with pytest.raises(SettingsError, match="Another controller"):
        Controller(controller.settings)


def test_upload_over_the_limit_has_the_error_body(
    http: FlaskClient, controller: Controller
) -> None:
    http.application.config["MAX_CONTENT_LENGTH"] = 1000
    answer = http.post(
        "/api/search", data=b"x" * 2000, content_type="multipart/form-data; boundary=a"
    )
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")


def test_every_answer_has_the_security_headers(http: FlaskClient) -> None:
    answer = ask(http)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
