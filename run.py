"""Start Futu from its checkout: ``python run.py [mode] [options]``.

Works with any Python: where Futu is not installed for the one at hand, the environment that
``start.sh`` made beside this file takes over.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import NoReturn

_NOT_INSTALLED = (
    "Futu is not installed for this Python. "
    "Run ./start.sh (start.bat on Windows), which makes its environment."
)


def run_in_environment(program: str) -> NoReturn:
    """Run a file of this folder again with the Python of ``.venv``, or say that there is none."""
    here = os.path.dirname(os.path.abspath(__file__))
    venv = os.path.join(here, ".venv")
    windows = os.name == "nt"
    python = os.path.join(venv, *(("Scripts", "python.exe") if windows else ("bin", "python")))
    # Either sign will do: a damaged environment may not know its own prefix.
    already_there = os.path.realpath(sys.prefix) == os.path.realpath(venv) or os.path.normcase(
        os.path.abspath(sys.executable)
    ) == os.path.normcase(python)
    if already_there or not os.path.exists(python):
        print(_NOT_INSTALLED, file=sys.stderr)
        sys.exit(1)
    command = [python, os.path.join(here, program), *sys.argv[1:]]
    if windows:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the child by itself
        sys.exit(subprocess.call(command))
    os.execv(python, command)  # noqa: S606


def main(program: str, module: str, entry: str) -> None:
    """Run a function of Futu, in the environment that has it."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("futu."):
            raise  # Futu is there and lacks a part of itself: no other Python mends that
        run_in_environment(program)
    getattr(found, entry)()


if __name__ == "__main__":
    main("run.py", "futu.cli", "run_py")
