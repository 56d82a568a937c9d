"""Secrets in files, where values come from, and names that are nearly right."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from futu import cli, config, sources
from futu.client_token import found_token
from futu.errors import SettingsError
from futu.launch import server_options

TOKEN = "a-token-of-these-tests"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in config.variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "redis_url": "redis://h/1",
        "database_url": "postgresql://h/d",
        "index_url": "milvus://h:1",
    }
    variables = dict(zip(config.Settings.model_fields, config.variables()))
    for name in sources.SECRETS:
        (tmp_path / name).write_text(values.get(name, f"{name}-{TOKEN}") + "\n")
        monkeypatch.setenv(f"{variables[name]}_FILE", str(tmp_path / name))
    settings = config.load()
    for name in sources.SECRETS:
        assert getattr(settings, name) == values.get(name, f"{name}-{TOKEN}")
    assert set(settings.environment()) == set()  # a child reads the files itself


def test_secret_given_twice_or_not_readable_or_empty_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=r"REDIS_PASSWORD_FILE names .*gone, which cannot"):
        config.load()
    (tmp_path / "gone").write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        config.load()
    monkeypatch.setenv("REDIS_PASSWORD", "x")
    with pytest.raises(SettingsError, match="are both set"):
        config.load()


def test_secret_file_outweighs_the_settings_file_and_yields_to_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "futu.toml").write_text('redis_password = "of the settings file"\n')
    assert config.load().redis_password == "of the settings file"
    (tmp_path / "p").write_text("of its own file")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", "p")
    assert config.load().redis_password == "of its own file"


def test_command_line_outweighs_a_variable_without_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMPUTE_WORKERS", "4")
    assert config.load(compute_workers=3).compute_workers == 3


def test_every_option_is_a_variable_and_a_key_of_the_file() -> None:
    @click.command()
    @server_options
    def command() -> None: ...

    names = {p.name.removesuffix("_") for p in command.params if p.name != "settings_file"}
    assert names <= set(config.Settings.model_fields)


def test_config_shows_values_and_origins_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "futu.toml").write_text("batch_size = 7\n")
    (tmp_path / "secret").write_text(TOKEN)
    monkeypatch.setenv("FUTU_API_TOKEN_FILE", "secret")
    monkeypatch.setenv("REDIS_URL", "rediss://me:pass1word@r:7/0?password=pass2word")
    monkeypatch.setenv("FUTU_PROT", "1")
    monkeypatch.setenv("COLUMNS", "300")
    done = CliRunner().invoke(cli.cli, ["config", "--port", "5"])
    assert done.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["port"] == ["FUTU_PORT", "5", "command", "line"]
    assert rows["batch_size"] == ["FUTU_BATCH_SIZE", "7", "futu.toml"]
    assert rows["api_token"] == ["FUTU_API_TOKEN", "(hidden)", "FUTU_API_TOKEN_FILE=secret"]
    assert rows["redis_url"][1:] == ["rediss://***@r:7/0?password=***", "REDIS_URL"]
    assert rows["host"][-1] == "default"
    for secret in (TOKEN, "pass1word", "pass2word"):
        assert secret not in done.output
    assert "FUTU_PROT is no setting. Did you mean FUTU_PORT?" in done.stderr


def test_strange_variable_is_named_only_when_it_looks_like_a_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_PASWORD", "x")
    monkeypatch.setenv("FUTU_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", "y")
    said = sources.misspelt(config.variables())
    assert [sentence.split()[0] for sentence in said] == ["REDIS_PASWORD"]


def test_address_of_redis_has_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_USERNAME", "futu")
    monkeypatch.setenv("REDIS_PASSWORD", "a b")
    assert config.load().redis_address == "redis://futu:a%20b@localhost:6379/0"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FUTU_TRUSTED_PROXIES", "10.0.0.0/8,nginx", "nginx"),
        ("FUTU_CORS_ORIGINS", "*", "without a path"),
        ("FUTU_CORS_ORIGINS", "http://a/b", "without a path"),
        ("FUTU_API_TOKEN", "short", "16 or more"),
    ],
)
def test_wrong_access_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said) as caught:
        config.load()
    assert name in str(caught.value)
    assert "short" not in str(caught.value)


def test_client_finds_the_token_and_sends_that_of_this_machine_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FUTU_API_TOKEN_FILE", raising=False)
    assert found_token("http://127.0.0.1:19198") is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api_token").write_text("kept\n")
    assert found_token("http://127.0.0.1:19198") == "kept"
    assert found_token("https://futu.example") is None
    (tmp_path / "file").write_text("of a file\n")
    monkeypatch.setenv("FUTU_API_TOKEN_FILE", "file")
    assert found_token("https://futu.example") == "of a file"
    monkeypatch.setenv("FUTU_API_TOKEN", "set")
    assert found_token("https://futu.example") == "set"
