"""The data directory: one controller at a time has it."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from futu.errors import SettingsError

TOKEN_FILE = "api_token"  # noqa: S105 - its name


def take_data_dir(data_dir: Path) -> FileLock:
    """Make the data directory if need be, and keep all others out until the lock is released.

    Raises:
        SettingsError: a controller has it, or it cannot be written.
    """
    lock = FileLock(data_dir / "controller.lock")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingsError(
            f"Another controller is using the data directory {data_dir.absolute()}. Stop it, "
            "or give this one its own --data-dir."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"The data directory {data_dir.absolute()} cannot be written ({error.strerror}). "
            "Choose another with --data-dir or mend its permissions."
        ) from error
    return lock
