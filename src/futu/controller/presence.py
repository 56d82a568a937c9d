"""Whether the files of a search's results are still there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import UNCONFIRMED
from futu.catalogue.store import Catalogue
from futu.controller.vanished import BELIEVED
from futu.images.folder import display
from futu.images.walk import has_entries

log = logging.getLogger(__name__)


class Presence:
    """Looks at files when they are about to be shown, and forgets those that were deleted.

    A file on a disk that is not mounted is not deleted: what is left of its folder must hold
    something, or hold so few files that they may well have been deleted one by one; and a dataset
    whose last build waits for a confirmation is left to that.

    Args:
        catalogue: where the rows of deleted files become missing.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def gone(self, images: Iterable[ImageRecord]) -> set[int]:
        """Ids of the images whose files were deleted; their rows are missing from now on."""
        absent = [image for image in images if _is_absent(image)]
        if not absent:
            return set()
        unsure = {
            dataset_id
            for dataset_id in {image.dataset_id for image in absent}
            if (last := self._catalogue.last_build(dataset_id)) is not None
            and last.state == UNCONFIRMED
        }
        deleted = {
            image.id: image
            for image in absent
            if image.dataset_id not in unsure and self._is_deleted(image)
        }
        if deleted:
            self._catalogue.mark_missing(list(deleted))
            first = next(iter(deleted.values()))
            log.info("%d results were deleted, %s first", len(deleted), display(first.path))
        return set(deleted)

    def _is_deleted(self, image: ImageRecord) -> bool:
        """Whether an absent file was deleted, rather than its disk taken away."""
        below = image.path
        while below:
            below = os.path.dirname(below)
            where = os.path.join(image.folder, below) if below else image.folder
            if os.path.isdir(where):
                few = self._catalogue.count_below(image.dataset_id, below, BELIEVED + 1) <= BELIEVED
                return few or has_entries(where)
        return False


def _is_absent(image: ImageRecord) -> bool:
    """Whether nothing is there; a file that cannot be looked at may be."""
    try:
        os.stat(os.path.join(image.folder, image.path))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
