"""Comparing disk, catalogue and index: every place where two of them disagree."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from futu.catalogue.records import DatasetRecord, Ids, KnownFile
from futu.catalogue.schema import MISSING, PENDING, READY
from futu.catalogue.store import Catalogue
from futu.controller.describe import withheld
from futu.controller.known import is_fresh, same_facts
from futu.controller.vanished import Vanished, sort_out
from futu.errors import FutuError, MissingFileError
from futu.images.folder import ImageRoots, display, has_picture_name, hash_file
from futu.images.walk import FoundFile, walk
from futu.index.live import LiveIndex, LiveIndexes

Kind = Literal[
    "folder_missing",
    "unreadable",
    "files_missing",
    "file_missing",
    "file_changed",
    "content_differs",
    "not_in_catalogue",
    "vector_missing",
    "vector_damaged",
    "not_in_index",
    "only_in_index",
]

_UNIT = 0.02
"""How far from 1 the length of a stored vector may be: it is rounded to float16."""


@dataclass(frozen=True)
class Difference:
    """Two of disk, catalogue and index disagree.

    Attributes:
        kind: how.
        dataset: name; empty when it concerns none or several.
        path: of the file, relative to the dataset's folder; empty when it concerns none.
        detail: a sentence.
        key: id of the image row or vector, when there is one.
    """

    kind: Kind
    dataset: str
    path: str
    detail: str
    key: int | None = None


class Checker:
    """Finds differences; changes nothing.

    Args:
        catalogue: compared with the disk and the indexes.
        roots: where pictures may be read.
        indexes: of each question.
        missing_share: of more vanished files one difference is made: a disk may be missing.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        roots: ImageRoots,
        indexes: LiveIndexes,
        missing_share: float,
    ) -> None:
        self._catalogue = catalogue
        self._roots = roots
        self._indexes = indexes
        self._missing_share = missing_share

    def dataset(
        self, dataset: DatasetRecord, *, deep: bool, suspects: Collection[str] = ()
    ) -> Iterator[Difference | None]:
        """The differences of a dataset; None for each file that has been looked at.

        Args:
            dataset: which.
            deep: hash every file, and look at every number of every vector.
            suspects: paths of files that are hashed in any case.
        """
        try:
            folder = self._roots.resolve(dataset.folder)
            known = self._catalogue.known_files(
                dataset.id, self._indexes[dataset.questions[0]].model_id
            )
            vanished = Vanished.before(known.values())
            closed = []
            for file in walk(folder, self._roots):
                row = known.pop(file.path, None)
                if file.closed:
                    closed.append(file)
                hashed = deep or file.path in suspects
                yield _of_file(dataset.name, folder, file, row, hashed=hashed)
        except FutuError as error:
            yield Difference("folder_missing", dataset.name, "", error.message)
            return
        sort_out(vanished, known, closed, ())
        yield from self._gone(dataset, vanished, known)
        for question in dataset.questions:
            yield from self._vectors(dataset, self._indexes[question], deep=deep)

    def _gone(
        self, dataset: DatasetRecord, vanished: Vanished, left: Mapping[str, KnownFile]
    ) -> Iterator[Difference]:
        if vanished.held(self._missing_share, confirmed=False):
            detail = withheld(
                dataset.name,
                display(dataset.folder),
                len(vanished.gone),
                vanished.of,
                self._missing_share,
            )
            yield Difference("files_missing", dataset.name, "", detail.strip())
            return
        ids = {*vanished.gone, *vanished.moved}
        for path, row in left.items():
            if row.id in ids:
                detail = "It is in the catalogue, but no longer on the disk."
                yield Difference("file_missing", dataset.name, path, detail, row.id)

    def _vectors(
        self, dataset: DatasetRecord, live: LiveIndex, *, deep: bool
    ) -> Iterator[Difference]:
        """Searchable images without a vector that can be used."""
        stored = self._catalogue.stored_vectors(dataset.id, live.model_id)
        paths: dict[int, str] = {}
        for image in stored:
            if image.vector_id is None:
                detail = f"It has no vector of {live.model_id}."
                yield Difference("vector_missing", dataset.name, image.path, detail)
            elif image.size != 2 * live.dimension:
                detail = f"Its vector of {live.model_id} has {image.size} bytes."
                yield Difference(
                    "vector_damaged", dataset.name, image.path, detail, image.vector_id
                )
            else:
                paths[image.vector_id] = image.path
        for ids, vectors in self._catalogue.vectors(list(paths) if deep else []):
            with np.errstate(all="ignore"):
                lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
                bad = ~(np.abs(lengths - 1) <= _UNIT)
            for key in ids[bad].tolist():
                detail = f"The numbers of its vector of {live.model_id} are none of a vector."
                yield Difference("vector_damaged", dataset.name, paths[key], detail, key)

    def index(
        self, live: LiveIndex, datasets: Collection[DatasetRecord] | None
    ) -> list[Difference]:
        """The differences of an index; to be called while nobody changes it.

        Args:
            live: the index.
            datasets: only what concerns these; None: all.
        """
        present = live.index.ids()
        chosen = None if datasets is None else [dataset.id for dataset in datasets]
        wanted = self._catalogue.searchable_vector_ids(live.model_id, chosen)
        lacking: Ids = np.setdiff1d(wanted, present, assume_unique=True)
        found = [
            Difference(
                "not_in_index", "", "", f"Vector {key} of {live.model_id} is not in the index.", key
            )
            for key in lacking.tolist()
        ]
        if datasets is None:
            extra: Ids = np.setdiff1d(present, wanted, assume_unique=True)
            found += [
                Difference(
                    "only_in_index",
                    "",
                    "",
                    f"Vector {key} of {live.model_id} is in the index, but no searchable image "
                    "has it.",
                    key,
                )
                for key in extra.tolist()
            ]
        return found


def _of_file(
    dataset: str, folder: Path, file: FoundFile, row: KnownFile | None, *, hashed: bool
) -> Difference | None:
    """How a file on the disk differs from its row."""

    def differs(kind: Kind, detail: str) -> Difference:
        return Difference(kind, dataset, file.path, detail, row.id if row is not None else None)

    there = row is not None and row.state != MISSING
    if file.error is not None:
        if row is not None and row.state == READY and isinstance(file.error, MissingFileError):
            return differs("file_missing", "It is a link to a file that is no longer there.")
        if file.closed or (row is not None and row.state == READY):
            return differs("unreadable", file.error.message)
        if there or not has_picture_name(file.path):
            return None
    if row is None or not there:
        return differs("not_in_catalogue", "It is on the disk, but not in the catalogue.")
    if not same_facts(file, row):
        return differs("file_changed", "Its size or time is not what the catalogue has.")
    if row.state == PENDING:
        return differs("vector_missing", "It waits for its vector.")
    if row.content_hash is not None and (hashed or is_fresh(row)):
        try:
            digest = hash_file(os.path.join(folder, file.path))
        except FutuError as error:
            return differs("unreadable", error.message)
        if digest != row.content_hash:
            return differs(
                "content_differs", "Its content is another one, though size and time are not."
            )
    return None
