"""start.sh and start.bat hand everything on, as it was given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name == "nt", reason="POSIX sh")
def test_start_sh_hands_on_every_argument_and_the_exit_code(tmp_path: Path) -> None:
    shutil.copy(ROOT / "start.sh", tmp_path)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "environment.sh").write_text("make_environment() { :; }\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "run.py").write_text("import sys\nprint(*sys.argv, sep='|')\nsys.exit(3)\n")
    given = ["both", "--host", "0.0.0.0", "--image-root", "/a b/*", "--log-level", "", "$HOME;'\""]
    done = subprocess.run(
        ["sh", str(tmp_path / "start.sh"), *given], cwd="/", capture_output=True, text=True
    )
    assert (done.stdout.rstrip("\n").split("|"), done.returncode) == (["run.py", *given], 3)


def test_start_bat_hands_on_every_argument_and_the_exit_code() -> None:
    lines = (ROOT / "start.bat").read_text().splitlines()
    last = lines.index(":run")
    assert lines[last + 1 :] == ['"%VENV_PYTHON%" run.py %*', "exit /b %ERRORLEVEL%"]
