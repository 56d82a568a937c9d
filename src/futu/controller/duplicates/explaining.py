"""What was done to the members of a group: worked out when it is opened, and kept."""

from __future__ import annotations

import io
import json
import logging
import threading
from dataclasses import replace

import numpy as np
from PIL import Image

from futu.catalogue.duplicate_records import DuplicateGroupRecord, DuplicateMemberRecord
from futu.catalogue.duplicate_schema import NEAR
from futu.catalogue.records import ImageRecord
from futu.catalogue.store import Catalogue
from futu.controller.duplicates.edits import Pixels, edit_of
from futu.controller.thumbnails import Thumbnails
from futu.errors import FutuError
from futu.images.folder import display

log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Members that are looked at in one request; the next one goes on."""


class Explaining:
    """Compares small versions of the pictures of a group with that of its keeper.

    Args:
        catalogue: keeps what was found.
        thumbnails: the small versions.
    """

    def __init__(self, catalogue: Catalogue, thumbnails: Thumbnails) -> None:
        self._catalogue = catalogue
        self._thumbnails = thumbnails
        self._one = threading.Lock()

    def of(self, group: DuplicateGroupRecord) -> DuplicateGroupRecord:
        """The group with what was done to its members, as far as it can be told."""
        keeper, *others = group.members
        asked = [m for m in others if m.tier == NEAR and m.edit is None and m.unchanged]
        if not asked or not keeper.unchanged:
            return group
        with self._one:
            found = self._edits(keeper, asked[:_AT_ONCE])
        self._catalogue.save_edits(group.run_id, group.number, found)
        members = (replace(m, edit=found.get(m.rank, m.edit)) for m in group.members)
        return replace(group, members=tuple(members))

    def _edits(
        self, keeper: DuplicateMemberRecord, members: list[DuplicateMemberRecord]
    ) -> dict[int, str]:
        ours, found = self._small(keeper.image), dict[int, str]()
        for member in members if ours is not None else ():
            theirs = self._small(member.image)
            if ours is None or theirs is None:
                continue
            edit = edit_of(ours[0], theirs[0], ours[1], theirs[1])
            found[member.rank] = json.dumps({} if edit is None else edit.json())
        return found

    def _small(self, image: ImageRecord | None) -> tuple[Pixels, tuple[int, int]] | None:
        """A picture, reduced, and the width and height of the whole."""
        if image is None:
            return None
        try:
            with Image.open(io.BytesIO(self._thumbnails.get(image))) as small:
                return np.asarray(small.convert("RGB")), (image.width, image.height)
        except FutuError as error:
            log.info("%s is not compared: %s", display(image.path), error)
            return None
