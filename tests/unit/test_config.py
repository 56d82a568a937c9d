"""Settings: where they come from and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from futu import config
from futu.errors import SettingsError

pytestmark = pytest.mark.usefixtures("no_settings")


def test_defaults_are_those_of_the_description() -> None:
    settings = config.load()
    assert (settings.host, settings.port, settings.compute_workers) == ("0.0.0.0", 19198, 2)
    assert (settings.feature_timeout, settings.batch_feature_timeout) == (30, 60)
    assert settings.redis_address == "redis://localhost:6379/0"
    assert not settings.redis_configured


def test_command_line_outweighs_environment_outweighs_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "futu.toml").write_text('port = 1\nbatch_size = 2\nredis_host = "filehost"\n')
    assert config.load().port == 1
    monkeypatch.setenv("FUTU_PORT", "3")
    settings = config.load()
    assert (settings.port, settings.batch_size, settings.redis_host) == (3, 2, "filehost")
    assert settings.redis_configured
    assert config.load(port=4).port == 4


def test_seed_names_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REDIS_HOST": "r",
        "REDIS_PORT": "7",
        "REDIS_DB": "3",
        "REDIS_PASSWORD": "p@ss/word",
        "COMPUTE_WORKERS": "4",
        "FEATURE_TIMEOUT": "5",
        "BATCH_FEATURE_TIMEOUT": "6",
    }.items():
        monkeypatch.setenv(name, value)
    settings = config.load()
    assert settings.redis_address == "redis://:p%40ss%2Fword@r:7/3"
    assert (settings.compute_workers, settings.feature_timeout) == (4, 5)
    assert settings.batch_feature_timeout == 6


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("FUTU_PORT", "70000", "65535"),
        ("COMPUTE_WORKERS", "many", "integer"),
        ("FUTU_CONFIG", "staging", "production"),
        ("FUTU_LOG_LEVEL", "LOUD", "DEBUG"),
        ("REDIS_URL", "http://x", "redis://"),
        ("FEATURE_TIMEOUT", "0", "greater than 0"),
    ],
)
def test_wrong_value_names_setting_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        config.load()
    for part in (name, value, allowed):
        assert part in str(caught.value)


def test_unknown_name_in_the_file_suggests_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "futu.toml").write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="Did you mean port"):
        config.load()


def test_file_that_is_not_toml_or_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "futu.toml").write_text("port = = 1\n")
    with pytest.raises(SettingsError, match=r"futu\.toml is not valid TOML"):
        config.load()
    monkeypatch.setenv("FUTU_SETTINGS", str(tmp_path / "gone.toml"))
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        config.load()


def test_debug_is_refused_in_production() -> None:
    with pytest.raises(SettingsError, match="leave --debug out"):
        config.load(debug=True, config="production")


def test_environment_gives_a_child_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = config.load(
        port=5, image_roots=(Path("/a b"), Path("/c")), compute_workers=3, data_dir=Path("d")
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert config.load().model_dump() == given.model_dump()
