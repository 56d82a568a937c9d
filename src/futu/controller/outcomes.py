"""How operations stand: those under way, and those in the trash."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from futu.errors import FutuError, UnknownOperationError
from futu.images.folder import display
from futu.trash.operations import Trash
from futu.trash.shelf import Operation

CHECKING, UNDOING, REFUSED = "checking", "undoing", "refused"
"""States that no journal has: files are read before anything moves; files come home; the plan was
not carried out."""

_KEPT_OUTCOMES = 100


@dataclass
class UnderWay:
    """An operation that is being carried out or undone, or was.

    Attributes:
        operation: its id.
        state: ``checking``, ``moving`` or ``undoing``; ``refused`` when nothing came of it.
        current, total: files that were checked, moved or brought home.
        error: why it failed.
        ended: set at its end.
    """

    operation: str
    state: str
    total: int
    ended: threading.Event
    current: int = 0
    error: FutuError | None = None


class Outcomes:
    """What is said of operations.

    Args:
        trash: has their journals.
    """

    def __init__(self, trash: Trash) -> None:
        self._trash = trash
        self._last: OrderedDict[str, UnderWay] = OrderedDict()

    def begin(self, under_way: UnderWay) -> None:
        """Something begins; it is remembered, as the journal does not say why it was refused."""
        self._last.pop(under_way.operation, None)
        self._last[under_way.operation] = under_way
        while len(self._last) > _KEPT_OUTCOMES:
            self._last.popitem(last=False)

    def operations(self) -> list[dict[str, Any]]:
        """All that can be reached, newest first."""
        found = {o.head.operation: _described(o) for o in self._trash.operations()}
        for under_way in list(self._last.values()):
            name = under_way.operation
            found[name] = self._overlaid(found.get(name), under_way)
        return [found[name] for name in sorted(found, reverse=True)]

    def operation(self, operation: str) -> dict[str, Any]:
        """One of them.

        Raises:
            UnknownOperationError: there is none.
        """
        under_way = self._last.get(operation)
        try:
            found = _described(self._trash.operation(operation))
        except UnknownOperationError:
            if under_way is None:
                raise
            return self._overlaid(None, under_way)
        return found if under_way is None else self._overlaid(found, under_way)

    def _overlaid(self, found: dict[str, Any] | None, under_way: UnderWay) -> dict[str, Any]:
        """What the journal says, and what is known beside it."""
        facts = found or {
            "id": under_way.operation,
            "state": under_way.state,
            "images": 0,
            "files": 0,
            "groups": 0,
            "bytes": 0,
            "left": 0,
            "error": "",
            "created_at": None,
            "trash": None,
        }
        if not under_way.ended.is_set():
            state = {"state": under_way.state}
            return facts | state | {"current": under_way.current, "total": under_way.total}
        if found is None:
            facts["state"] = REFUSED
            facts["error"] = under_way.error.message if under_way.error is not None else ""
        return facts

    def files(self, operation: str, offset: int, limit: int) -> list[dict[str, Any]]:
        """Its files in pages, and whether each is in the trash.

        Raises:
            UnknownOperationError: there is none.
        """
        listed = []
        for move, inside in self._trash.moves(operation):
            if offset <= move.n < offset + limit:
                listed.append(
                    {
                        "path": display(move.source),
                        "trash_path": display(move.target),
                        "image_ids": list(move.images),
                        "content_hash": move.content_hash,
                        "size": move.size,
                        "group": move.group,
                        "in_trash": inside,
                    }
                )
        return listed


def _described(operation: Operation) -> dict[str, Any]:
    head = operation.head
    return {
        "id": head.operation,
        "state": operation.state,
        "images": head.images,
        "files": head.files,
        "groups": head.groups,
        "bytes": head.size,
        "left": operation.left,
        "error": operation.error,
        "created_at": head.created_at,
        "trash": display(operation.place),
    }
