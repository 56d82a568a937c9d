"""What production refuses, and what it lets pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from futu import config, production
from futu.errors import SettingsError

TOKEN = "a-token-of-these-tests"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in config.variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def check(mode: str = "controller", **given: Any) -> None:
    production.check(config.load(**{"config": "production", **given}), mode)


def test_token_is_wanted_where_others_can_reach_it() -> None:
    with pytest.raises(SettingsError, match=r"without a token.*FUTU_API_TOKEN_FILE"):
        check()
    with pytest.raises(SettingsError, match="without a token"):
        check(host="192.0.2.1")
    check(host="127.0.0.1")
    check(host="::1")
    check(api_token=TOKEN)
    check(auth="none")
    check("compute")
    check(config="development")


def test_token_that_was_made_before_is_enough(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "api_token"
    file.touch(0o600)
    with pytest.raises(SettingsError, match="without a token"):
        check()
    file.write_text(TOKEN)
    check()


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")
@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_token_file_that_everybody_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "api_token"
    file.write_text(TOKEN)
    file.chmod(mode)
    with pytest.raises(SettingsError, match=r"every user.*chmod 600 .*api_token"):
        check()
    file.chmod(0o640)
    check()


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")
def test_other_files_with_secrets_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "futu.toml"
    settings.write_text("port = 5\n")
    settings.chmod(0o644)
    check(host="127.0.0.1")
    settings.write_text(f'api_token = "{TOKEN}"\n')
    with pytest.raises(SettingsError, match=r"chmod 600 .*futu\.toml"):
        check()
    settings.unlink()
    secret = tmp_path / "its secret"
    secret.write_text(TOKEN)
    secret.chmod(0o644)
    monkeypatch.setenv("FUTU_API_TOKEN_FILE", str(secret))
    with pytest.raises(SettingsError, match=r"chmod 600 '.*its secret'"):
        check()


@pytest.mark.parametrize("mode", ["controller", "compute", "both"])
def test_redis_elsewhere_needs_a_password(mode: str) -> None:
    with pytest.raises(SettingsError, match=r"Redis at 10\.0\.0\.1.*REDIS_PASSWORD"):
        check(mode, api_token=TOKEN, redis_host="10.0.0.1")
    with pytest.raises(SettingsError, match="without a password"):
        check(mode, api_token=TOKEN, redis_url="rediss://r:1/0")
    check(mode, api_token=TOKEN, redis_host="10.0.0.1", redis_password="p")
    check(mode, api_token=TOKEN, redis_url="rediss://r:1/0?ssl_certfile=c.pem")
    check(mode, api_token=TOKEN, redis_url="unix:///r.sock")
    check(mode, api_token=TOKEN)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        check(redis_host="10.0.0.1")
    assert len(caught.value.message.splitlines()) == 2
