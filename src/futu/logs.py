"""Logging, set up in one place, by the program and never by a library."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from concurrent_log_handler import ConcurrentRotatingFileHandler

_FORMAT = "%(asctime)s %(levelname)-7s %(process)d {role} %(name)s: %(message)s"
_ROTATE_BYTES = 10 * 1024 * 1024
_KEPT_FILES = 5


class _LogFile(ConcurrentRotatingFileHandler):
    """Says once that the file cannot be written, instead of a traceback for each line."""

    _said = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A line was not written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            sys.stderr.write(
                f"The log file {self.baseFilename} cannot be written ({error.strerror}). Make "
                "room, or choose another with FUTU_LOG_FILE.\n"
            )


def configure(role: str, level: str, file: Path | None, console: bool = True) -> None:
    """Send the log to the console and to a rotating file.

    The file is shared by the controller, the compute servers and the supervisor of one
    machine, so its handler takes a lock for each line and for rotation.

    Args:
        role: ``controller``, ``compute`` or ``supervisor``; part of each line.
        level: lowest level to log.
        file: the log file, or None for the console only.
        console: whether the console gets it too.
    """
    formatter = logging.Formatter(_FORMAT.format(role=role))
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)] if console else []
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            _LogFile(
                str(file.absolute()),
                maxBytes=_ROTATE_BYTES,
                backupCount=_KEPT_FILES,
                encoding="utf-8",
            )
        )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    if level != "DEBUG":
        # These tell of every start, every full queue, every variant they try: not our events.
        logging.getLogger("faiss").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("waitress").setLevel(logging.ERROR)
