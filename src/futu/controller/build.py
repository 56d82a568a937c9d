"""One build under way: its counts, what is outstanding, and how it is described."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from futu.catalogue.records import BuildRecord, DatasetRecord, Outcome
from futu.catalogue.schema import BUILDING, CANCELLED, DONE, ERROR, PENDING
from futu.images.folder import display
from futu.jobs.message import ImageItem, Job

_WAITING = "Waiting: "


class BuildStoppedError(Exception):
    """The controller is shutting down; the build goes on at its next start."""


class BuildCancelledError(Exception):
    """Somebody has asked for the build to end."""


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
    """One build under way: which files and jobs it still waits for, and its counts.

    A file of the scan is counted once: at the scan, or when the content it has comes to its end
    (``credit``), or when it is found to have changed meanwhile (``drop_file``). So at the end of
    a build the counts add up to ``total``. All that changes is guarded by ``lock``.

    Attributes:
        folder: of the dataset, with links resolved; known when ``scanned``.
        record: the counts.
        halt: set when the build is asked to end.
        again: whether another build is to follow this one at once.
        files: content under way -> the files of the build that have it, not empty.
        outstanding: jobs under way, by id.
        resend: contents that a compute server could not read; they are to travel as bytes.
        refused: contents that this build has found to be of no use.
        suspects: jobs that Redis did not know at the last look.
    """

    def __init__(self, dataset: DatasetRecord, record: BuildRecord) -> None:
        self.dataset = dataset
        self.record = record
        self.folder = Path(dataset.folder)
        self.lock = threading.Condition()
        self.halt = threading.Event()
        self.again = False
        self.scanned = False
        self.files: dict[bytes, list[str]] = {}
        self.outstanding: dict[str, Sent] = {}
        self.refused: dict[bytes, Outcome] = {}
        self.resend: list[bytes] = []
        self.suspects: set[str] = set()
        self._halted_by: type[BuildStoppedError | BuildCancelledError] | None = None

    # --- asked to end ----------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the build to end and to take its jobs back."""
        self._halt(BuildCancelledError)

    def stop(self) -> None:
        """Ask the build to end where it is."""
        self._halt(BuildStoppedError)

    def _halt(self, why: type[BuildStoppedError | BuildCancelledError]) -> None:
        with self.lock:
            self._halted_by = self._halted_by or why
            self.halt.set()
            self.lock.notify_all()

    def check(self) -> None:
        """Return while the build may go on.

        Raises:
            BuildStoppedError, BuildCancelledError.
        """
        if self._halted_by is not None:
            raise self._halted_by

    def wait_for(self, reason: str) -> None:
        """Say why the build does not go on; an empty reason takes that back."""
        if reason:
            self.record.message = _WAITING + reason
        elif self.record.message.startswith(_WAITING):
            self.record.message = ""

    # --- counted; all with ``lock`` held ---------------------------------------------------

    def expect(self, content: bytes, path: str) -> ImageItem | None:
        """A file waits for the vector of its content.

        Returns:
            The content as a job has it; None when other files wait for it already.
        """
        files = self.files.setdefault(content, [])
        files.append(path)
        return self.item(content) if len(files) == 1 else None

    def item(self, content: bytes) -> ImageItem | None:
        """A content under way as a job has it, by the path of its first file."""
        files = self.files.get(content)
        if not files:
            return None
        path = os.fsencode(os.path.join(self.folder, files[0]))
        return ImageItem(path=path, content_hash=content, name=display(files[0]))

    def credit(self, outcome: Outcome) -> None:
        """A content has come to its end; a repeat changes nothing."""
        files = self.files.pop(outcome.content_hash, None)
        if files is None:
            return
        if outcome.vector is not None:
            self.record.added += len(files)
        else:
            self.refused[outcome.content_hash] = outcome
            self.count_refused(outcome, len(files))

    def count_refused(self, outcome: Outcome, files: int = 1) -> None:
        """Count files whose content cannot be used."""
        if outcome.quarantined:
            self.record.quarantined += files
        else:
            self.record.failed += files

    def drop_file(self, content: bytes) -> str | None:
        """The first file of a content no longer has it: it failed.

        Returns:
            Its path; None when the content has come to its end meanwhile.
        """
        files = self.files.get(content)
        if files is None:
            return None
        path = files.pop(0)
        if not files:
            del self.files[content]
        self.record.failed += 1
        return path


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
