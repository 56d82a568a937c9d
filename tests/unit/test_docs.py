"""The READMEs against the code: every option, setting, command and endpoint, in both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from futu import cli, config
from futu.controller.app import create_app
from futu.controller.service import Controller
from futu.models import registry, sidecar

ROOT = Path(__file__).parents[2]
READMES = ["README.md", "README.zh-CN.md"]


@pytest.fixture(params=READMES)
def readme(request: pytest.FixtureRequest) -> str:
    return (ROOT / str(request.param)).read_text("utf-8")


def test_every_option_of_run_py_is_in_the_readme(readme: str) -> None:
    for parameter in cli.run.params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert f"`{option}" in readme, option


def test_every_setting_is_in_the_readme(readme: str) -> None:
    for variable in config.variables():
        assert f"`{variable}`" in readme, variable


def test_every_setting_the_readme_names_exists(readme: str) -> None:
    known = set(config.variables()) | {"FUTU_SETTINGS", "FUTU_SERVER", "FUTU_PYTHON"}
    known |= {f"{variable}_FILE" for variable in config.variables()}
    for name in re.findall(r"`((?:FUTU|REDIS|COMPUTE|FEATURE|BATCH)_[A-Z_]+)`", readme):
        assert name in known, name


def test_every_command_is_in_the_readme(readme: str) -> None:
    for command in cli.cli.commands:
        assert re.search(rf"`futu {command}\b", readme), command


def test_every_endpoint_is_in_the_readme(readme: str, controller: Controller) -> None:
    for rule in create_app(controller).url_map.iter_rules():
        if rule.endpoint != "static" and rule.rule != "/":
            path = re.sub(r"<(?:\w+:)?(\w+?)(?:_name)?>", r"<\1>", rule.rule)
            path = path.replace("<image_id>", "<id>")
            assert path in readme, path


def test_every_model_and_every_field_of_a_description_is_in_the_readme(readme: str) -> None:
    for name in registry.names():
        assert f"| `{name}` |" in readme
    for field in sidecar.Sidecar.model_fields:
        assert re.search(rf"^    {field} = ", readme, re.MULTILINE), field


def test_both_readmes_have_the_same_tables() -> None:
    def cells(name: str) -> set[str]:
        return set(re.findall(r"^\| `([^`]+)`", (ROOT / name).read_text("utf-8"), re.MULTILINE))

    assert cells(READMES[0]) == cells(READMES[1])
