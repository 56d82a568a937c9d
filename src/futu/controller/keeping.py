"""Which member of a group is kept."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Protocol, TypeVar


class Keepable(Protocol):
    """What is known of a file that may be kept."""

    @property
    def id(self) -> int:
        """The image's."""

    @property
    def dataset_id(self) -> int:
        """Whose it is."""

    @property
    def path(self) -> str:
        """Relative to the dataset's folder."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int:
        """When the file was last written."""

    @property
    def width(self) -> int:
        """Pixels."""

    @property
    def height(self) -> int:
        """Pixels."""


Kept = TypeVar("Kept", bound=Keepable)


def by_keeping(images: Collection[Kept], reference: Collection[int] = ()) -> list[Kept]:
    """Images in the order in which they are to be kept, the keeper first.

    Those of reference datasets come first; then the largest resolution, the largest file, the
    oldest, the shortest path; and the id, so that the order is the same each time.

    Args:
        images: members of a group.
        reference: ids of the datasets whose files are always kept.
    """
    return sorted(
        images,
        key=lambda image: (
            image.dataset_id not in reference,
            -image.width * image.height,
            -image.size,
            image.mtime_ns,
            len(os.fsencode(image.path)),
            image.id,
        ),
    )
