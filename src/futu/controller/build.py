"""One build under way: its counts, what is outstanding, and how it is described."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from futu.catalogue.records import BuildRecord, DatasetRecord
from futu.catalogue.schema import BUILDING, DONE, PENDING
from futu.jobs.message import ImageItem, Job


@dataclass
class Counted:
    """A content under way and how many files of the build have it."""

    item: ImageItem
    files: int


class Build:
    """One build under way. ``lock`` guards the counts and what is outstanding."""

    def __init__(self, dataset: DatasetRecord, record: BuildRecord) -> None:
        self.dataset = dataset
        self.record = record
        self.lock = threading.Condition()
        self.outstanding: dict[str, Job] = {}
        self.counted: dict[bytes, Counted] = {}
        self.suspects: set[str] = set()
        self.scanned = False

    def credit(self, content_hash: bytes, ok: bool) -> None:
        """A content has come to its end. Called with ``lock`` held; a repeat changes nothing."""
        counted = self.counted.pop(content_hash, None)
        if counted is not None:
            if ok:
                self.record.added += counted.files
            else:
                self.record.failed += counted.files


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
        "status": status,
        "current": current,
        "total": total,
        "message": message,
        "added": record.added,
        "unchanged": record.unchanged,
        "reused": record.reused,
        "failed": record.failed,
        "missing": record.missing,
        "build_id": record.id,
    }
