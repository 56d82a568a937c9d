"""What unit tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from futu import config

_OURS = ("FUTU_", "REDIS_", "COMPUTE_", "FEATURE_", "BATCH_")


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment or from a file in the working directory."""
    for name in {*config.variables(), *(n for n in os.environ if n.startswith(_OURS))}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
