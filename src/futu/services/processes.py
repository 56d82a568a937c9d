"""Detached processes: started so that they outlive the shell, asked to stop, made to stop."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

STOP_FILE_VARIABLE = "FUTU_STOP_FILE"
"""A service ends when the file that this names appears: Windows has no SIGTERM."""

_LOOK_S = 0.25
_DETACHED_PROCESS = 0x00000008
_NEW_PROCESS_GROUP = 0x00000200


def detached(platform: str = sys.platform) -> dict[str, Any]:
    """What Popen is told so that a process has no terminal and gets no signal from one."""
    if platform == "win32":
        return {"creationflags": _DETACHED_PROCESS | _NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a process that stays when we end.

    Args:
        command: program and arguments.
        environment: all of it.
        log: gets what it writes to its console; only its owner can read it.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **detached(),
        )


def end(
    process: psutil.Process, stop_file: Path, wait_s: float, platform: str = sys.platform
) -> bool:
    """Ask a process to end; when it has not after a while, kill it and its children.

    Args:
        process: whom; psutil signals nobody else who got its pid meanwhile.
        stop_file: what it looks out for, where there are no signals.
        wait_s: how long it may take.
        platform: as ``sys.platform``.

    Returns:
        Whether it ended by itself.
    """
    try:
        children = process.children(recursive=True)
        if platform == "win32":
            stop_file.touch()
        else:
            process.terminate()
        try:
            process.wait(wait_s)
            return True
        except psutil.TimeoutExpired:
            children += process.children(recursive=True)
            process.kill()
            process.wait(wait_s)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            return False
    except psutil.NoSuchProcess:
        return True
    finally:
        stop_file.unlink(missing_ok=True)


def stop_with_file(stop: Callable[[], None], platform: str = sys.platform) -> None:
    """In a service, where there are no signals: stop when the file appears."""
    path = os.environ.get(STOP_FILE_VARIABLE)
    if path is None or platform != "win32":
        return

    def watch() -> None:
        pause = threading.Event()
        while not os.path.exists(path):
            pause.wait(_LOOK_S)
        stop()

    threading.Thread(target=watch, name="stop-file", daemon=True).start()
