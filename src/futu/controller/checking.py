"""Whether a plan may be carried out: it may have been edited, and the files may have changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from futu.catalogue.records import ImageRecord
from futu.catalogue.schema import MISSING, READY
from futu.controller.planning import Reference, path_of
from futu.errors import InvalidRequestError, MissingFileError, PlanRefusedError
from futu.images.folder import ImageRoots, display
from futu.trash.plan import KEEP, MOVE, PlanRow, groups_of


@dataclass(frozen=True)
class Checked:
    """A file of a plan.

    Attributes:
        real: its path, links resolved.
        content_hash: hexadecimal; what it has to be.
        images: its images in the plan.
        group: the plan's.
        moves: whether it goes to the trash.
    """

    real: str
    content_hash: str
    images: tuple[int, ...]
    group: str
    moves: bool


def check(
    rows: Sequence[PlanRow],
    images: Mapping[int, ImageRecord],
    members: Mapping[str, Mapping[int, bytes]],
    reference: Reference,
    roots: ImageRoots,
) -> list[Checked]:
    """The files of a plan, if all that can be told without reading them speaks for it.

    Args:
        rows: the plan.
        images: what the catalogue knows of its images.
        members: group -> image id -> content hash, for groups that a run has found.
        reference: what is never moved.
        roots: outside of which nothing is moved.

    Raises:
        PlanRefusedError: something speaks against it; the sentence names the row, file or group.
        OutsideRootsError: a file is outside the roots.
    """
    seen: dict[int, int] = {}
    reals: dict[int, str] = {}
    for number, row in enumerate(rows, 1):
        if row.image_id in seen:
            raise _refused(
                f"Rows {seen[row.image_id]} and {number} of the plan are about one image, "
                f"{row.image_id}. Leave one of them out.",
                row,
            )
        seen[row.image_id] = number
        image = images.get(row.image_id)
        _check_image(number, row, image)
        assert image is not None  # noqa: S101 - it was checked
        _check_member(number, row, members.get(row.group))
        reals[row.image_id] = _check_file(row, image, reference, roots)
    return _files(rows, reals)


def _check_image(number: int, row: PlanRow, image: ImageRecord | None) -> None:
    if image is None:
        raise _refused(
            f"Row {number} names image {row.image_id}, which the catalogue does not have. Make a "
            "new plan.",
            row,
        )
    shown = display(path_of(image))
    if row.path != shown:
        raise _refused(
            f"Row {number} names image {row.image_id} as {row.path}, but that image is {shown}. "
            "Edit only the column action.",
            row,
        )
    if image.state == MISSING:
        raise _refused(
            f"{shown} is not there any more; it may be in the trash already (futu trash list). "
            "Make a new plan.",
            row,
        )
    if image.content_hash is None or image.content_hash.hex() != row.content_hash:
        raise _changed(row)
    if image.state != READY:
        raise _refused(f"{shown} is not indexed now. Index it and make a new plan.", row)


def _check_member(number: int, row: PlanRow, members: Mapping[int, bytes] | None) -> None:
    if members is not None and members.get(row.image_id, b"").hex() != row.content_hash:
        raise _refused(
            f"Row {number} puts {row.path} into group {row.group}, of which it is no member. Edit "
            "only the column action.",
            row,
        )


def _check_file(row: PlanRow, image: ImageRecord, reference: Reference, roots: ImageRoots) -> str:
    path = path_of(image)
    try:
        real = str(roots.resolve_file(path))
    except (MissingFileError, InvalidRequestError):
        raise _refused(
            f"There is no file {row.path} any more. Index its dataset and make a new plan.", row
        ) from None
    if row.action == KEEP:
        return real
    if reference.has(real, image.dataset_id):
        raise _refused(
            f"{row.path} belongs to a reference dataset, whose files are never moved. Keep it.", row
        )
    if os.path.islink(path):
        raise _refused(f"{row.path} is a link, which is never moved. Keep it.", row)
    folder = os.path.dirname(real)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(
            f"The folder {display(folder)} cannot be written, so {row.path} cannot be moved. "
            "Mend its permissions, or keep the picture.",
            row,
        )
    return real


def _files(rows: Sequence[PlanRow], reals: Mapping[int, str]) -> list[Checked]:
    by_real: dict[str, list[PlanRow]] = {}
    for row in rows:
        by_real.setdefault(reals[row.image_id], []).append(row)
    for of_file in by_real.values():
        for row in of_file[1:]:
            if row.action != of_file[0].action:
                raise _refused(
                    f"{row.path} and {of_file[0].path} are one file; the plan keeps one and moves "
                    "the other. Keep both, or move both.",
                    row,
                )
    for group, of_group in groups_of(rows).items():
        if not any(row.action == KEEP for row in of_group):
            raise _refused(
                f"The plan would move all images of group {group}, {of_group[0].path} among them. "
                "Keep at least one.",
                of_group[0],
            )
    return [
        Checked(
            real,
            of_file[0].content_hash,
            tuple(row.image_id for row in of_file),
            of_file[0].group,
            of_file[0].action == MOVE,
        )
        for real, of_file in by_real.items()
    ]


def _changed(row: PlanRow) -> PlanRefusedError:
    return _refused(
        f"{row.path} has changed since the plan was made. Index its dataset and make a new plan.",
        row,
    )


def changed_file(file: Checked) -> PlanRefusedError:
    """The error for a file whose content is not that of the plan."""
    name = display(file.real)
    return PlanRefusedError(
        f"{name} has changed since the plan was made. Nothing was moved; index its dataset and "
        "make a new plan.",
        path=name,
        image_id=file.images[0],
    )


def _refused(message: str, row: PlanRow) -> PlanRefusedError:
    return PlanRefusedError(message, image_id=row.image_id, path=row.path, group=row.group)
