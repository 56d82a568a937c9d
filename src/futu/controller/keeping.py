"""Which member of a group is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from futu.errors import InvalidRequestError


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

_RULES: dict[str, tuple[str, Callable[[Keepable], int]]] = {
    "resolution": ("largest resolution", lambda image: -image.width * image.height),
    "size": ("largest file", lambda image: -image.size),
    "oldest": ("oldest", lambda image: image.mtime_ns),
    "path": ("shortest path", lambda image: len(os.fsencode(image.path))),
}
RULES = tuple(_RULES)
"""The rules in their usual order; the first by which two images differ decides."""


def order_of(names: Collection[str]) -> tuple[str, ...]:
    """The rules in an order that somebody wishes; those not named follow in their usual order.

    Raises:
        InvalidRequestError: there is no such rule, or one is named twice.
    """
    wished = tuple(names)
    if len(set(wished)) != len(wished) or not set(wished) <= set(RULES):
        raise InvalidRequestError(
            f"The order of rules is {', '.join(map(str, wished))[:80]!r}; give some of "
            f"{', '.join(RULES)}, each once.",
            field="keep",
        )
    return (*wished, *(name for name in RULES if name not in wished))


def by_keeping(
    images: Collection[Kept], reference: Collection[int] = (), order: Sequence[str] = RULES
) -> list[Kept]:
    """Images in the order in which they are to be kept, the keeper first.

    Those of reference datasets come first; then the rules decide; then the id, so that the order
    is the same each time.

    Args:
        images: members of a group.
        reference: ids of the datasets whose files are always kept.
        order: all rules, the weightiest first.
    """

    def key(image: Kept) -> tuple[int, ...]:
        rules = (_RULES[name][1](image) for name in order)
        return (image.dataset_id not in reference, *rules, image.id)

    return sorted(images, key=key)


def why(keeper: Keepable, other: Keepable, order: Sequence[str] = RULES) -> str:
    """The rule by which one image is kept rather than another, in words."""
    for name in order:
        words, value = _RULES[name]
        if value(keeper) != value(other):
            return words
    return "first"
