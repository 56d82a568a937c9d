"""Environments of their own for what Futu is measured against."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def python_with(requirements: Path, folder: Path) -> str:
    """The Python of an environment that has the requirements, made when there is none."""
    python = folder / "bin" / "python"
    installed = folder / "installed.txt"
    wanted = requirements.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip"]
        if (uv := shutil.which("uv")) is not None:
            pip = [uv, "pip"]
        install = [*pip, "install", "--quiet", "-r", str(requirements)]
        subprocess.run(install, check=True, env={**os.environ, "VIRTUAL_ENV": str(folder)})
        installed.write_text(wanted)
    return str(python)
