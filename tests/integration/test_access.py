"""Who gets in: the application, asked as from here and as from elsewhere."""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from futu import config
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.controller.tokens import Tokens
from futu.errors import SettingsError

ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}
TOKEN = "an-admin-token-for-tests"
READ_TOKEN = "a-read-token-for-tests"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FlaskClient]]:
    """Makes the application of a controller with further settings."""
    made: list[Controller] = []

    def make_one(**settings: object) -> FlaskClient:
        places = {"data_dir": tmp_path / "data", "datasets_dir": tmp_path / "datasets"}
        redis = f"unix://{tmp_path}/nobody.sock"
        made.append(Controller(config.load(redis_url=redis, **places, **settings)))
        return create_app(made[-1]).test_client()

    yield make_one
    for controller in made:
        controller.stop()


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
    for path in ("/api/datasets", "/api/image/x/1", "/show_image/x/a.jpg", "/nothing"):
        answer = http.get(path, environ_overrides=ELSEWHERE)
        assert answer.status_code == 401, path
        assert answer.get_json()["code"] == "no_token"
        assert "Bearer" in answer.headers["WWW-Authenticate"]


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
    assert ask(http, Origin="http://localhost:19197").status_code == 403
    assert ask(http, Origin="http://localhost").status_code == 200


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
    for answer in (ask(http), ask(http, ELSEWHERE), http.get("/"), http.get("/login")):
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "Access-Control-Allow-Origin" not in headers


def test_pages_hold_no_inline_code(http: FlaskClient) -> None:
    for path in ("/", "/login"):
        page = http.get(path).get_data(as_text=True)
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page), path


def test_visitor_of_the_page_is_sent_to_sign_in(http: FlaskClient) -> None:
    answer = http.get("/", environ_overrides=ELSEWHERE)
    assert (answer.status_code, answer.location) == (303, "/login")
    shown = http.get("/login", environ_overrides=ELSEWHERE, headers={"Accept-Language": "zh-CN"})
    assert "令牌" in shown.get_data(as_text=True)


def test_signing_in_gives_a_cookie_that_scripts_cannot_read_and_is_not_the_token(
    http: FlaskClient, controller: Controller
) -> None:
    form = {"token": controller.token}
    answer = http.post("/login", data=form, environ_overrides=ELSEWHERE)
    assert (answer.status_code, answer.location) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert controller.token not in cookie
    assert ask(http, ELSEWHERE).status_code == 200
    http.post("/logout", environ_overrides=ELSEWHERE)
    assert ask(http, ELSEWHERE).status_code == 401


def test_cookie_that_was_tampered_with_or_is_of_another_token_is_none(
    make: Callable[..., FlaskClient], tmp_path: Path
) -> None:
    first = make(api_token=TOKEN)
    cookie = first.post("/login", data={"token": TOKEN}, environ_overrides=ELSEWHERE)
    value = cookie.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    other = Tokens("another-token-for-tests", "")
    assert Tokens(TOKEN, "").session_role(value) == "admin"
    assert other.session_role(value) is None
    assert Tokens(TOKEN, "").session_role(value[:-1] + "x") is None
    assert Tokens(TOKEN, "").session_role(TOKEN) is None


def test_wrong_token_at_the_form_is_refused_and_other_sites_may_not_post_it(
    http: FlaskClient,
) -> None:
    assert http.post("/login", data={"token": "wrong"}).status_code == 401
    form, foreign = {"token": "wrong"}, {"Origin": "https://evil.example"}
    assert http.post("/login", data=form, headers=foreign).status_code == 403


def test_wrong_tokens_are_limited_by_address_and_then_not_even_compared(
    make: Callable[..., FlaskClient],
) -> None:
    http = make(api_token=TOKEN)
    wrong, right = "Bearer wrong", f"Bearer {TOKEN}"
    codes = [ask(http, ELSEWHERE, Authorization=wrong).status_code for _ in range(11)]
    assert codes == [401] * 10 + [429]
    refused = ask(http, ELSEWHERE, Authorization=right)
    assert refused.get_json()["code"] == "too_many_attempts"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    form = http.post("/login", data={"token": TOKEN}, environ_overrides=ELSEWHERE)
    assert form.status_code == 429
    assert http.get("/health", environ_overrides=ELSEWHERE).status_code == 503  # and no 429
    assert ask(http, {"REMOTE_ADDR": "192.0.2.8"}, Authorization=right).status_code == 200
    assert ask(http).status_code == 200


def test_attempts_from_one_ipv6_network_count_together(make: Callable[..., FlaskClient]) -> None:
    http = make(api_token=TOKEN)
    codes = [
        ask(http, {"REMOTE_ADDR": f"2001:db8::{n:x}"}, Authorization="Bearer wrong").status_code
        for n in range(1, 12)
    ]
    assert codes[-1] == 429


def test_read_token_looks_and_searches_and_changes_nothing(
    make: Callable[..., FlaskClient],
) -> None:
    http = make(api_token=TOKEN, api_read_token=READ_TOKEN)
    how: dict[str, Any] = {
        "environ_overrides": ELSEWHERE,
        "headers": {"Authorization": f"Bearer {READ_TOKEN}"},
    }
    assert http.get("/api/datasets", **how).status_code == 200
    assert "redis" in http.get("/health", **how).get_json()
    assert http.post("/api/search", json={"image_id": 1}, **how).status_code not in (401, 403)
    assert http.post("/api/get_dataset_id", json={"name": "x"}, **how).status_code == 404
    looking = {"/api/get_dataset_id", "/api/get_images_by_ids"}
    looking |= {"/api/duplicates/check", "/api/duplicates/leakage"}
    for path in sorted(looking):
        assert http.post(path, json={}, **how).status_code not in (401, 403), path
    changing = [
        (rule.rule, method)
        for rule in http.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        if not rule.endpoint.startswith(("search.", "compute.", "login."))
        and rule.rule not in looking
    ]
    assert ("/api/build_index", "POST") in changing
    for rule, method in changing:
        path = re.sub("<[^>]+>", "1", rule)
        answer = http.open(path, method=method, json={}, **how)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "read_only"), rule


def test_production_wants_the_token_from_this_machine_too(
    make: Callable[..., FlaskClient],
) -> None:
    http = make(config="production", api_token=TOKEN)
    assert ask(http).status_code == 401
    assert http.get("/health").get_json() == {"status": "unavailable"}
    assert http.get("/health/live").get_json() == {"status": "alive"}
    assert ask(http, Authorization=f"Bearer {TOKEN}").status_code == 200


def test_without_authentication_only_other_pages_are_refused(
    make: Callable[..., FlaskClient],
) -> None:
    http = make(auth="none")
    assert ask(http, ELSEWHERE).status_code == 200
    assert ask(http, ELSEWHERE, Origin="https://evil.example").status_code == 403


def test_forwarded_address_counts_from_a_configured_proxy_only(
    make: Callable[..., FlaskClient],
) -> None:
    http = make(api_token=TOKEN, trusted_proxies="127.0.0.1,10.0.0.0/8")
    wrong: Any = {"Authorization": "Bearer wrong"}
    for n in range(10):  # what stands before the proxy's own word is the client's invention
        ask(http, X_Forwarded_For=f"198.51.100.{n}, 192.0.2.7, 10.1.2.3", **wrong)
    assert ask(http, X_Forwarded_For="192.0.2.7", **wrong).status_code == 429
    assert ask(http, X_Forwarded_For="192.0.2.8", **wrong).status_code == 401
    assert ask(http, {"REMOTE_ADDR": "192.0.2.9"}, X_Forwarded_For="192.0.2.7", **wrong)
    assert ask(http, X_Forwarded_For="127.0.0.1").status_code == 401
    assert ask(http).status_code == 401  # a proxy that says nothing makes no request local


def test_proxy_that_ends_tls_makes_the_cookie_secure_and_its_name_the_origin(
    make: Callable[..., FlaskClient],
) -> None:
    http = make(api_token=TOKEN, trusted_proxies="127.0.0.1")
    through = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "futu.example"}
    own = {**through, "Origin": "https://futu.example"}
    answer = http.post("/login", data={"token": TOKEN}, headers=own)
    assert answer.status_code == 303
    assert "Secure" in answer.headers["Set-Cookie"]
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    elsewhere = {**own, "X-Forwarded-Host": "other.example"}
    assert http.post("/login", data={"token": TOKEN}, headers=elsewhere).status_code == 403


def test_front_end_of_another_origin_is_let_in_when_configured(
    make: Callable[..., FlaskClient],
) -> None:
    front = "http://localhost:19197"
    http = make(cors_origins=front)
    answer = ask(http, Origin=front)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == front
    asked = {"Access-Control-Request-Method": "POST", "Origin": front}
    preflight = http.options("/api/search", headers=asked, environ_overrides=ELSEWHERE)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == front
    assert ask(http, Origin="http://localhost:19196").status_code == 403
    asked["Origin"] = "http://localhost:19196"
    strange = http.options("/api/search", headers=asked)
    assert "Access-Control-Allow-Origin" not in strange.headers
    assert ask(http, ELSEWHERE, Origin=front).status_code == 401  # and still needs the token
