"""Plans: what would be kept and moved, and whether a plan that comes back may be carried out.

What decides is the real file: an image may be reached by a link, or belong to two datasets of which
one is inside the other. All images of one file are kept or moved together.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from futu.catalogue.records import DatasetRecord, ImageRecord
from futu.catalogue.schema import READY
from futu.controller.keeping import RULES, by_keeping, why
from futu.images.folder import ImageRoots, display
from futu.trash.places import Places
from futu.trash.plan import KEEP, MOVE, PlanRow
from futu.trash.sidecars import SIDECAR, sidecars


@dataclass(frozen=True)
class Group:
    """Images that are copies of each other; ``name`` as in ``PlanRow``."""

    name: str
    images: tuple[ImageRecord, ...]


@dataclass
class Plan:
    """What would be done.

    Attributes:
        rows: of every group with something to move, keepers first.
        groups: how many these are.
        moved: how many images would be moved.
        sidecars: how many sidecar files would go with them.
        freed_bytes: of the files that would be moved, once the trash is emptied by hand; those
            with another hard link free nothing.
        skipped: sentences about groups and images that were left out.
    """

    rows: list[PlanRow] = field(default_factory=list)
    groups: int = 0
    moved: int = 0
    sidecars: int = 0
    freed_bytes: int = 0
    skipped: list[str] = field(default_factory=list)


@dataclass
class _File:
    """A file on the disk and the images that it is."""

    real: str
    images: list[ImageRecord]
    held: str = ""


class Planner:
    """Makes plans.

    Args:
        roots: outside of which nothing is moved.
        places: where the trash is.
        datasets: all there are.
    """

    def __init__(
        self, roots: ImageRoots, places: Places, datasets: Iterable[DatasetRecord]
    ) -> None:
        self._roots = roots
        self._places = places
        self._reference = Reference(datasets)

    def plan(self, groups: Iterable[Group], order: Sequence[str] = RULES) -> Plan:
        """Keep one file of each group, and what must not be moved; move the others.

        Args:
            groups: with what the catalogue knows of their images.
            order: of the rules; see ``keeping``.
        """
        plan = Plan()
        taken: set[str] = set()
        leaving: dict[str, int] = {}
        for group in groups:
            files = self._files(group, plan, taken)
            if len(files) > 1:
                self._part(group.name, files, order, plan, leaving)
        self._weigh(plan, leaving)
        return plan

    def _files(self, group: Group, plan: Plan, taken: set[str]) -> list[_File]:
        files: dict[str, _File] = {}
        for image in group.images:
            path = path_of(image)
            real = os.path.realpath(path)
            if image.state != READY or image.content_hash is None or not os.path.isfile(real):
                plan.skipped.append(f"{display(path)} is left out: it is not there any more.")
                continue
            if real in taken:
                plan.skipped.append(f"{display(path)} is left out: it is in another group too.")
                continue
            file = files.setdefault(real, _File(real, []))
            file.images.append(image)
            file.held = file.held or self._held(path, real, image)
        taken.update(files)
        return list(files.values())

    def _held(self, path: str, real: str, image: ImageRecord) -> str:
        """Why a file is not moved in any case."""
        if self._reference.has(real, image.dataset_id):
            return "reference"
        if os.path.islink(path):
            return "a link leads to it"
        return "" if self._roots.contains(real) else "outside the image roots"

    def _part(
        self,
        name: str,
        files: Sequence[_File],
        order: Sequence[str],
        plan: Plan,
        leaving: dict[str, int],
    ) -> None:
        # A file of a reference dataset may be known by another one's image.
        first = {file.images[0].id: file for file in files}
        ids = {f.images[0].dataset_id for f in files if f.held == "reference"}
        ranked = [first[i.id] for i in by_keeping([f.images[0] for f in files], ids, order)]
        ranked.sort(key=lambda file: file.held != "reference")
        keeper = ranked[0]
        if not any(not file.held for file in ranked[1:]):
            return
        for place, file in enumerate(ranked):
            moves = place > 0 and not file.held
            reason = file.held or f"copy of {keeper.images[0].id}"
            if place == 0 and not file.held:
                reason = why(keeper.images[0], ranked[1].images[0], order)
            to = self._places.of(file.real) if moves else ""
            for image in file.images:
                plan.rows.append(_row(name, MOVE if moves else KEEP, reason, image, to))
            if moves:
                facts = os.stat(file.real)
                leaving[file.real] = facts.st_size if facts.st_nlink == 1 else 0
                plan.moved += len(file.images)
        plan.groups += 1

    def _weigh(self, plan: Plan, leaving: dict[str, int]) -> None:
        plan.freed_bytes = sum(leaving.values())
        for path in with_sidecars(leaving):
            plan.sidecars += 1
            plan.freed_bytes += os.path.getsize(path)


class Reference:
    """The datasets whose files are never moved.

    Args:
        datasets: all there are.
    """

    def __init__(self, datasets: Iterable[DatasetRecord]) -> None:
        chosen = [dataset for dataset in datasets if dataset.reference]
        self._ids = {dataset.id for dataset in chosen}
        self._folders = tuple(os.path.join(os.path.realpath(d.folder), "") for d in chosen)

    def has(self, real: str, dataset_id: int) -> bool:
        """Whether a file is in one, by its image or by where it is."""
        return dataset_id in self._ids or real.startswith(self._folders)


def path_of(image: ImageRecord) -> str:
    """The absolute path of an image, its links not resolved."""
    return os.path.join(image.folder, image.path)


def with_sidecars(leaving: Collection[str]) -> dict[str, str]:
    """Path of a sidecar file -> the picture that it leaves with.

    Args:
        leaving: real paths of all pictures that leave.
    """
    listed: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for path in leaving:
        folder = os.path.dirname(path)
        if folder not in listed:
            names = os.listdir(folder)
            # Most folders have none.
            any_there = any(name.lower().endswith(SIDECAR) for name in names)
            listed[folder] = names if any_there else []
        for sidecar in sidecars(path, leaving, listed[folder]):
            if os.path.isfile(sidecar) and not os.path.islink(sidecar):
                found.setdefault(sidecar, path)
    return found


def _row(name: str, action: str, reason: str, image: ImageRecord, to: str) -> PlanRow:
    modified = datetime.fromtimestamp(image.mtime_ns / 1e9, UTC)
    return PlanRow(
        group=name,
        action=action,
        image_id=image.id,
        path=display(path_of(image)),
        content_hash=(image.content_hash or b"").hex(),
        reason=reason,
        dataset=image.dataset,
        size=image.size,
        width=image.width,
        height=image.height,
        modified_at=modified.isoformat(timespec="seconds"),
        to=display(to),
    )
