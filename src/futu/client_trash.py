"""What plans, the trash and operations on it are in the REST API, for ``futu.client``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from futu.client_answers import make
from futu.trash.plan import PlanRow, from_records

UNDER_WAY = frozenset({"checking", "moving", "undoing"})
"""States of an operation that has not ended."""


@dataclass(frozen=True)
class Plan:
    """What would be kept and moved; ``freed_bytes`` once the trash is emptied by hand."""

    rows: list[PlanRow]
    groups: int = 0
    images: int = 0
    sidecars: int = 0
    freed_bytes: int = 0
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Operation:
    """An operation on the trash.

    Attributes:
        state: ``applied``, ``undone``, ``rolled_back``, ``incomplete``, ``interrupted``,
            ``refused``, or one of ``UNDER_WAY``.
        images, files: pictures; these and their sidecar files.
        left: how many files are in the trash.
        bytes: of all files.
        trash: the folder.
        current, total: how far one is that is under way.
    """

    id: str
    state: str
    images: int = 0
    files: int = 0
    groups: int = 0
    bytes: int = 0
    left: int = 0
    error: str = ""
    created_at: str | None = None
    trash: str | None = None
    current: int = 0
    total: int = 0


@dataclass(frozen=True)
class TrashedFile:
    """A file of an operation; without ``image_ids`` it is a sidecar file."""

    path: str
    trash_path: str
    image_ids: list[int]
    content_hash: str
    size: int
    group: str
    in_trash: bool


class TrashCalls:
    """The calls of ``Client`` about plans and operations."""

    def _call(self, method: str, path: str, **request: Any) -> Any:
        raise NotImplementedError

    def plan(
        self,
        *,
        run_id: int | None = None,
        groups: Sequence[Sequence[int]] | None = None,
        keep: Sequence[str] | None = None,
    ) -> Plan:
        """POST /api/duplicates/plan: of a run's open groups, or of groups of image ids.

        Args:
            run_id: a run that looked for duplicates.
            groups: lists of image ids, instead.
            keep: rules, the weightiest first; None: those of the settings.
        """
        return _plan(self._call("POST", "/api/duplicates/plan", json=_chosen(run_id, groups, keep)))

    def apply(
        self,
        rows: Sequence[PlanRow] | None = None,
        *,
        run_id: int | None = None,
        groups: Sequence[Sequence[int]] | None = None,
        keep: Sequence[str] | None = None,
    ) -> Operation:
        """POST /api/duplicates/apply: carry out a plan, or what ``plan`` would make.

        The operation may be still under way: ``operation`` tells how far it is.
        """
        if rows is not None:
            body: dict[str, Any] = {"rows": [asdict(row) for row in rows]}
        else:
            body = _chosen(run_id, groups, keep)
        return self._operation(self._call("POST", "/api/duplicates/apply", json=body))

    def operations(self, offset: int = 0, limit: int = 100) -> list[Operation]:
        """GET /api/operations: newest first."""
        page = {"offset": offset, "limit": limit}
        found = self._call("GET", "/api/operations", params=page)["operations"]
        return [make(Operation, facts) for facts in found]

    def operation(self, operation: str) -> Operation:
        """GET /api/operations/<operation>."""
        return self._operation(self._call("GET", f"/api/operations/{quote(operation, safe='')}"))

    def operation_files(
        self, operation: str, offset: int = 0, limit: int = 1000
    ) -> list[TrashedFile]:
        """GET /api/operations/<operation>: its files."""
        path = f"/api/operations/{quote(operation, safe='')}"
        page = {"offset": offset, "limit": limit}
        found = self._call("GET", path, params=page)["files"]
        return [make(TrashedFile, facts) for facts in found]

    def undo(self, operation: str, image_ids: Sequence[int] | None = None) -> Operation:
        """POST /api/operations/<operation>/undo: bring all its images home, or some.

        It may be still under way: ``operation`` tells how far it is.
        """
        body = {} if image_ids is None else {"image_ids": list(image_ids)}
        path = f"/api/operations/{quote(operation, safe='')}/undo"
        return self._operation(self._call("POST", path, json=body))

    def _operation(self, body: dict[str, Any]) -> Operation:
        return make(Operation, body["operation"])


def _chosen(
    run_id: int | None, groups: Sequence[Sequence[int]] | None, keep: Sequence[str] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if run_id is not None:
        body["run_id"] = run_id
    if groups is not None:
        body["groups"] = [list(group) for group in groups]
    if keep is not None:
        body["keep"] = list(keep)
    return body


def _plan(body: dict[str, Any]) -> Plan:
    """An answer of POST /api/duplicates/plan."""
    rows = from_records(body["rows"]) if body["rows"] else []
    facts = {name: body[name] for name in ("groups", "images", "sidecars", "freed_bytes")}
    return Plan(rows, **facts, skipped=list(body["skipped"]))
