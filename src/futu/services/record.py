"""Pid files: which process a service is, so that another shell finds it and no other program.

The first line is the pid, the second facts as JSON. A pid alone says little: after a crash or a
restart of the machine another program may have it. So the file keeps when the process was born
and how it was called, and only a process that agrees in both is the service.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from futu.errors import SettingsError


@dataclass(frozen=True)
class Record:
    """A service that was started.

    Attributes:
        name: of the service.
        pid: of its process.
        birth: when the process was born, see ``birth_of``.
        command: how it was called.
        url: where it answers; it may hold a password, so the file is private.
        version: of Futu.
        log: what it writes to its console.
    """

    name: str
    pid: int
    birth: str
    command: list[str]
    url: str
    version: str
    log: str

    def process(self) -> psutil.Process | None:
        """The process, if it still runs and is the one that was started."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE or birth_of(self.pid) != self.birth:
                return None
        except (psutil.NoSuchProcess, OSError):
            return None
        try:
            # The first word may differ: some Pythons start themselves again by another name.
            if process.cmdline()[1:] != self.command[1:]:
                return None
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # ours could be looked at
            return None
        return process


def birth_of(pid: int, platform: str = sys.platform) -> str:
    """When a process was born: the same words as long as it lives, however the clock is set.

    Raises:
        OSError, psutil.NoSuchProcess: there is no such process.
    """
    if platform == "linux":
        # Seconds since the epoch would move with the clock; ticks since the start of the
        # machine do not.
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        ticks = stat.rpartition(b")")[2].split()[19].decode()
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {ticks}"
    return f"{psutil.Process(pid).create_time():.2f}"


class Records:
    """The pid files of one data directory.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, ending: str = ".pid") -> Path:
        """A file of a service."""
        return self.folder / f"{name}{ending}"

    def read(self, name: str) -> Record | None:
        """What is known of a service; None: it was not started, or stopped.

        Raises:
            SettingsError: the pid file is damaged.
        """
        path = self.path(name)
        try:
            _, _, facts = path.read_text("utf-8").partition("\n")
        except FileNotFoundError:
            return None
        try:
            return Record(**json.loads(facts))
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"The pid file {path.absolute()} is damaged. If no {name} runs, delete it."
            ) from error

    def write(self, record: Record) -> None:
        """Keep a record; a reader sees the old or the new one, whole."""
        path, new = self.path(record.name), self.path(record.name, ".pid.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{record.pid}\n{json.dumps(asdict(record), ensure_ascii=False)}\n")
        os.replace(new, path)

    def forget(self, name: str) -> None:
        """A service was stopped."""
        self.path(name).unlink(missing_ok=True)
