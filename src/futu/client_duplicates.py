"""What runs that look for duplicates, and their groups, are in the REST API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from futu.client_answers import make

_PAGE = 500
RUNNING = "running"
GROUP_STATES = ("open", "resolved", "dismissed")


@dataclass(frozen=True)
class DuplicateRun:
    """A run.

    Attributes:
        threshold: similarity from which a pair is a copy, 0-100; with the presets normal and loose
            also what stands out among less similar ones.
        state: ``running``, ``done``, ``error`` or ``cancelled``.
        progress: of the present stage, percent.
        groups: all that were found; ``duplicates`` files beside the keepers of the open ones, and
            ``freed_bytes`` theirs.
        counts: state -> tier -> groups, once it is done.
    """

    id: int
    state: str
    threshold: float
    preset: str | None = None
    datasets: list[str] = field(default_factory=list)
    model_id: str = ""
    stage: str = ""
    progress: int = 0
    current: int = 0
    total: int = 0
    images: int = 0
    groups: int = 0
    duplicates: int = 0
    freed_bytes: int = 0
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupMember:
    """An image of a group.

    Attributes:
        tier: how it was found to be a copy of the keeper: ``exact``, ``pixels`` or ``near``.
        similarity, cosine: to the keeper.
        reference: whether its dataset's files are always kept.
        hidden: left out, since people decided about it before.
        present: whether it is there and still what the run saw.
        edit: what was done to it; None: nobody has looked, empty: it cannot be told.
    """

    id: int
    keeper: bool
    tier: str
    similarity: float
    cosine: float
    content_hash: str
    reference: bool = False
    hidden: bool = False
    present: bool = True
    edit: dict[str, Any] | None = None
    fname: str = ""
    dataset: str = ""
    img_url: str = ""
    width: int = 0
    height: int = 0
    size: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True)
class DuplicateGroup:
    """A group; the keeper is its first image."""

    run: int
    number: int
    tier: str
    state: str
    similarity: float
    images: list[GroupMember]
    image_count: int = 0
    hidden_count: int = 0
    freed_bytes: int = 0


@dataclass(frozen=True)
class GroupPage:
    """Some groups of a run, and how many there are in all."""

    groups: list[DuplicateGroup]
    total_groups: int = 0
    total_duplicates: int = 0
    freed_bytes: int = 0


class DuplicateCalls:
    """What ``Client`` can ask about duplicates."""

    def _call(self, method: str, path: str, **request: Any) -> Any:
        raise NotImplementedError

    def find_duplicates(
        self,
        datasets: Sequence[str] = (),
        *,
        preset: str | None = None,
        threshold: float | None = None,
    ) -> DuplicateRun:
        """Begin a run over some datasets, or share the one under way.

        Args:
            datasets: names; none means all there are.
            preset: ``strict``, ``normal`` (when nothing is given) or ``loose``.
            threshold: 50-100, instead.
        """
        body: dict[str, Any] = {"preset": preset, "threshold": threshold}
        if datasets:
            body["dataset_names"] = list(datasets)
        return make(DuplicateRun, self._call("POST", "/api/duplicates", json=body))

    def duplicate_runs(self, offset: int = 0, limit: int = 100) -> list[DuplicateRun]:
        """All runs that are kept, newest first."""
        asked = {"offset": offset, "limit": limit}
        found = self._call("GET", "/api/duplicates", params=asked)["runs"]
        return [make(DuplicateRun, run) for run in found]

    def duplicate_run(self, run_id: int) -> DuplicateRun:
        """A run as it is now."""
        return make(DuplicateRun, self._call("GET", f"/api/duplicates/{run_id}"))

    def cancel_duplicates(self, run_id: int) -> bool:
        """End a run; False when it has ended."""
        return bool(self._call("DELETE", f"/api/duplicates/{run_id}")["cancelled"])

    def duplicate_groups(
        self,
        run_id: int,
        *,
        states: Sequence[str] = ("open",),
        tiers: Sequence[str] = (),
        offset: int = 0,
        limit: int = 100,
        after: int = 0,
    ) -> GroupPage:
        """A page of a run's groups.

        Args:
            run_id: which run.
            states: of ``GROUP_STATES``.
            tiers: of ``exact``, ``pixels``, ``near``; none means all.
            offset: how many to pass over.
            limit: how many at most.
            after: only groups with a greater number: quick however far one has come.
        """
        asked: dict[str, Any] = {"state": ",".join(states), "offset": offset, "limit": limit}
        asked["after"] = after
        if tiers:
            asked["tier"] = ",".join(tiers)
        facts = self._call("GET", f"/api/duplicates/{run_id}/groups", params=asked)
        groups = [_group(found) for found in facts["groups"]]
        return make(GroupPage, {**facts, "groups": groups})

    def all_duplicate_groups(
        self, run_id: int, *, states: Sequence[str] = ("open",), tiers: Sequence[str] = ()
    ) -> Iterator[DuplicateGroup]:
        """All groups of a run, page by page."""
        after = 0
        while True:
            page = self.duplicate_groups(
                run_id, states=states, tiers=tiers, limit=_PAGE, after=after
            )
            yield from page.groups
            if len(page.groups) < _PAGE:
                return
            after = page.groups[-1].number

    def duplicate_group(self, run_id: int, number: int) -> DuplicateGroup:
        """A group, with what was done to its members as far as it can be told."""
        return _group(self._call("GET", f"/api/duplicates/{run_id}/groups/{number}"))

    def decide(self, run_id: int, number: int, state: str) -> DuplicateGroup:
        """Set the state of a group, of ``GROUP_STATES``; it outlasts the run."""
        path = f"/api/duplicates/{run_id}/groups/{number}"
        return _group(self._call("PATCH", path, json={"state": state}))

    def set_reference(self, dataset: str, reference: bool = True) -> None:
        """Let the files of a dataset always be kept, or no longer."""
        path = f"/api/datasets/{quote(dataset, safe='')}"
        self._call("PATCH", path, json={"reference": reference})

    def repeated(self, dataset: str | int, threshold: float = 90.0) -> list[list[int]]:
        """Groups of image ids of one dataset, waited for; the keeper first."""
        body = {"index_id": dataset, "threshold": threshold}
        found = self._call("POST", "/api/repeated_search", json=body)["groups"]
        return [[int(key) for key in group] for group in found]

    def image_facts(self, image_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Where images are, in the order asked; those that are unknown are left out."""
        body = {"image_ids": list(image_ids)}
        return list(self._call("POST", "/api/get_images_by_ids", json=body)["images"])


def _group(facts: dict[str, Any]) -> DuplicateGroup:
    members = [make(GroupMember, member) for member in facts["images"]]
    return make(DuplicateGroup, {**facts, "images": members})
