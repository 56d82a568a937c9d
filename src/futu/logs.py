"""Logging, set up in one place, by the program and never by a library."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Literal

from concurrent_log_handler import ConcurrentRotatingFileHandler
from pythonjsonlogger.json import JsonFormatter

from futu import tracing

_FORMAT = "%(asctime)s %(levelname)-7s %(process)d {role} %(name)s: %(message)s"
_JSON_FIELDS = "timestamp levelname process threadName name message request_id job_id"
_JSON_NAMES = {"levelname": "level", "process": "pid", "threadName": "thread", "name": "logger"}
_ROTATE_BYTES = 10 * 1024 * 1024
_KEPT_FILES = 5


class _Ids(logging.Filter):
    """Notes which request and which job a line is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through."""
        record.request_id, record.job_id = tracing.request_id(), tracing.job_id()
        return True


class _Text(logging.Formatter):
    """A line for people; the ids stand at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, without a traceback."""
        line, facts = super().formatMessage(record), vars(record)
        job, request = facts.get("job_id"), facts.get("request_id")
        if job and job not in line:
            line += f" (job {job})"
        return f"{line} (request {request})" if request else line


class _Json(JsonFormatter):
    """An object a line; ids that there are not are left out."""

    def process_log_record(self, log_data: dict[str, object]) -> dict[str, object]:
        """What is written."""
        ids = ("request_id", "job_id")
        return {name: value for name, value in log_data.items() if name not in ids or value}


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


def configure(
    role: str,
    level: str,
    file: Path | None,
    console: bool = True,
    form: Literal["text", "json"] = "text",
) -> None:
    """Send the log to the console and to a rotating file.

    The file is shared by the controller, the compute servers and the supervisor of one
    machine, so its handler takes a lock for each line and for rotation.

    Args:
        role: ``controller``, ``compute`` or ``supervisor``; part of each line.
        level: lowest level to log.
        file: the log file, or None for the console only.
        console: whether the console gets it too.
        form: lines for people, or an object of JSON a line.
    """
    formatter = _formatter(role, form)
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
        handler.addFilter(_Ids())
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    if level != "DEBUG":
        # These tell of every start, every full queue, every variant they try: not our events.
        logging.getLogger("faiss").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("waitress").setLevel(logging.ERROR)


def _formatter(role: str, form: Literal["text", "json"]) -> logging.Formatter:
    if form == "text":
        return _Text(_FORMAT.format(role=role))
    return _Json(
        _JSON_FIELDS.split(),
        rename_fields=_JSON_NAMES,
        static_fields={"role": role},
        timestamp=True,
        json_ensure_ascii=False,
    )
