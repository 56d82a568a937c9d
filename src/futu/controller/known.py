"""What a scan makes of a file that it knows: whether it is as it was, and may be left alone."""

from __future__ import annotations

from futu.catalogue.records import KnownFile
from futu.catalogue.schema import FAILED, QUARANTINED, READY
from futu.images.walk import FoundFile

PERMANENT_ERRORS = frozenset({"not_an_image", "vector_image", "cannot_decode"})
"""A file that failed so is tried again only when it has changed, or on request."""

FRESH_NS = 2_000_000_000
"""The coarsest tick in which file systems count modification times: FAT's two seconds."""


def same_facts(file: FoundFile, row: KnownFile) -> bool:
    """Whether a file has the size and time that it had."""
    return file.error is None and (row.size, row.mtime_ns) == (file.size, file.mtime_ns)


def settled(row: KnownFile) -> str | None:
    """The state of a file that is left alone if it is as it was; None: there is work to do."""
    if row.state == READY and row.vector_id is not None:
        return READY
    if row.state == QUARANTINED or (row.state == FAILED and row.error_code in PERMANENT_ERRORS):
        return row.state
    return None


def is_fresh(row: KnownFile) -> bool:
    """Whether a file was so new when it was hashed that a later change may not show.

    One of the same size within the same tick of the file system's clock. (git calls such an entry
    racily clean.) Times in the future are no sign of it: they would never end.
    """
    return abs(row.scanned_at_ns - row.mtime_ns) < FRESH_NS
