"""Imports point one way; what a process need not have is not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("futu.compute.server", {"flask", "sqlalchemy", "faiss", "waitress", "alembic"}),
        ("futu.controller.server", {"onnxruntime", "onnx", "openvino"}),
        ("futu.client", {"flask", "sqlalchemy", "faiss", "onnxruntime", "redis"}),
    ],
)
def test_process_loads_only_what_it_runs(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({unwanted!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
