"""What unit tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from futu import config
from futu.controller.service import Controller

_OURS = ("FUTU_", "REDIS_", "COMPUTE_", "FEATURE_", "BATCH_")


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment or from a file in the working directory."""
    for name in {*config.variables(), *(n for n in os.environ if n.startswith(_OURS))}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    """One that is not started, and whose Redis is away."""
    made = Controller(
        config.load(
            data_dir=tmp_path / "data",
            datasets_dir=tmp_path / "datasets",
            redis_url=f"unix://{tmp_path}/nobody.sock",
        )
    )
    yield made
    made.stop()
