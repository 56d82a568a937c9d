"""One build under way: its counts, what is outstanding, and how it is described."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from futu.catalogue.records import BuildRecord, DatasetRecord, Outcome
from futu.catalogue.schema import BUILDING, CANCELLED, DONE, ERROR, PENDING
from futu.jobs.message import ImageItem, Job

_WAITING = "Waiting: "


class BuildStoppedError(Exception):
    """The controller is shutting down; the build goes on at its next start."""


class BuildCancelledError(Exception):
    """Somebody has asked for the build to end."""


@dataclass
class Counted:
    """A content under way and how many files of the build have it."""

    item: ImageItem
    files: int


@dataclass
class Sent:
    """A job whose result has not come.

    Attributes:
        job: without the bytes of its pictures.
        size: bytes of pictures that it carries in Redis.
    """

    job: Job
    size: int = 0


class Build:
    """One build under way. ``lock`` guards the counts and what is outstanding.

    Attributes:
        outstanding: jobs under way, by id.
        resend: contents that a compute server could not read; they are to travel as bytes.
        refused: contents that this build has found to be of no use.
        suspects: jobs that Redis did not know at the last look.
        retry_failed: whether files that have failed before are tried again.
        cancelled: whether it is to end.
    """

    def __init__(
        self, dataset: DatasetRecord, record: BuildRecord, *, retry_failed: bool = False
    ) -> None:
        self.dataset = dataset
        self.record = record
        self.retry_failed = retry_failed
        self.lock = threading.Condition()
        self.outstanding: dict[str, Sent] = {}
        self.counted: dict[bytes, Counted] = {}
        self.refused: dict[bytes, Outcome] = {}
        self.resend: list[ImageItem] = []
        self.suspects: set[str] = set()
        self.scanned = False
        self.cancelled = False

    def cancel(self) -> None:
        """Ask the build to end."""
        with self.lock:
            self.cancelled = True
            self.lock.notify_all()

    def wait_for(self, reason: str) -> None:
        """Say why the build does not go on; an empty reason takes that back."""
        if reason:
            self.record.message = _WAITING + reason
        elif self.record.message.startswith(_WAITING):
            self.record.message = ""

    def credit(self, outcome: Outcome) -> None:
        """A content has come to its end. Called with ``lock`` held; a repeat changes nothing."""
        counted = self.counted.pop(outcome.content_hash, None)
        if counted is None:
            return
        if outcome.vector is not None:
            self.record.added += counted.files
        else:
            self.refused[outcome.content_hash] = outcome
            self.count_refused(outcome, counted.files)

    def count_refused(self, outcome: Outcome, files: int = 1) -> None:
        """Count files whose content cannot be used. Called with ``lock`` held."""
        if outcome.quarantined:
            self.record.quarantined += files
        else:
            self.record.failed += files


def describe(record: BuildRecord | None, *, scanned: bool = True) -> dict[str, Any]:
    """Describe a build as GET /api/build_index/progress/<dataset> does.

    Args:
        record: None when there was none.
        scanned: whether its total is known.
    """
    if record is None:
        return {
            "progress": 0,
            "status": PENDING,
            "current": 0,
            "total": 0,
            "message": "Not indexed yet.",
            "failed": 0,
        }
    status, current, total = record.state, record.current, record.total
    if not scanned:
        status, percent = (PENDING, 0) if total == 0 else (BUILDING, 0)
        message = "Scanning the folder."
    elif status == DONE:
        percent, message = 100, record.message
    else:
        percent = int(100 * current / total) if total else 0
        percent = min(percent, 99)
        message = record.message or f"{current} of {total} images, {record.failed} failed."
    return {
        "progress": percent,
        # The front ends know four; whoever waits for the end is to stop at a cancelled one too.
        "status": ERROR if status == CANCELLED else status,
        "state": status,
        "current": current,
        "total": total,
        "message": message,
        "added": record.added,
        "unchanged": record.unchanged,
        "reused": record.reused,
        "failed": record.failed,
        "quarantined": record.quarantined,
        "missing": record.missing,
        "build_id": record.id,
    }
