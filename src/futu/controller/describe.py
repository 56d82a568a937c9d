"""How builds are described to whoever asks."""

from __future__ import annotations

from typing import Any

from futu.catalogue.records import BuildRecord
from futu.catalogue.schema import BUILDING, CANCELLED, DONE, ERROR, PENDING, UNCONFIRMED


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
        "status": ERROR if status in (CANCELLED, UNCONFIRMED) else status,
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


def summary(record: BuildRecord) -> str:
    """The counts of a build that is done, in a sentence."""
    aside = f", {record.quarantined} put aside" if record.quarantined else ""
    return (
        f"{record.total} images: {record.added} new, {record.reused} known by content, "
        f"{record.unchanged} unchanged, {record.failed} failed{aside}, {record.missing} gone."
    )


def withheld(name: str, folder: str, gone: int, of: int, share: float) -> str:
    """What is said when so many files have vanished that none is forgotten.

    Args:
        name: of the dataset.
        folder: where they were.
        gone: how many have vanished.
        of: how many there were.
        share: the most that may vanish without a word, 0 to 1.
    """
    return (
        f" {gone} of the {of} known images are no longer in {folder}: {100 * gone / of:.0f} %, "
        f"more than FUTU_MAX_MISSING_SHARE ({100 * share:g} %). None of them was forgotten. If a "
        "disk is not mounted, mount it and index again; if they are meant to be gone: "
        f"futu index {name} --confirm-missing."
    )


def shortage(question: str, lacking: int, model: str, *, served: bool) -> str:
    """What is said of images that lack a further vector, and what to do about it.

    Args:
        question: what the vectors are for.
        lacking: how many images; 0: nothing is said.
        model: the name of the model.
        served: whether a compute server has it.
    """
    if not lacking:
        return ""
    images = "1 image lacks its" if lacking == 1 else f"{lacking} images lack their"
    if served:
        return f" {images} {question} vectors: index again, and see the log."
    return (
        f" {images} {question} vectors: no compute server has the model {model}. Run "
        f"'futu models pull {model}' on one; they follow by themselves, or index again."
    )
