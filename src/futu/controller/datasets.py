"""The datasets of a controller: found, registered, counted before they are indexed."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from futu.catalogue.records import DatasetRecord
from futu.catalogue.store import Catalogue
from futu.config import Settings
from futu.errors import FutuError, InvalidRequestError
from futu.images.folder import ImageRoots, display
from futu.images.walk import walk
from futu.models.spec import Question

log = logging.getLogger(__name__)

_COUNT_CACHE_S = 60.0
_LACKING_CACHE_S = 5.0


class Datasets:
    """What a controller does about datasets as such.

    Attributes:
        settings: where datasets are found, and what they answer.
        catalogue: where they are recorded.
        roots: where pictures may be read.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, roots: ImageRoots) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.roots = roots
        self._lacking: dict[tuple[int, str], tuple[float, int]] = {}
        self._counts: dict[int, tuple[float, int, str | None]] = {}
        self._discovery = threading.Lock()

    def discover(self) -> None:
        """Register sub-folders of the datasets folder that are not datasets yet."""
        with self._discovery:
            known = {d.folder for d in self.catalogue.datasets()}
            base = self.settings.datasets_dir.absolute()
            try:
                with os.scandir(base) as entries:
                    names = sorted(e.name for e in entries if e.is_dir())
            except OSError as error:
                log.warning("the datasets folder %s cannot be read: %s", base, error)
                return
            for name in names:
                folder = os.path.realpath(base / name)
                if name.startswith(".") or folder in known:
                    continue
                if not self.roots.contains(folder):
                    log.warning("datasets/%s links to outside the image roots", display(name))
                    continue
                try:
                    self.catalogue.add_dataset(display(name), folder, self.settings.questions)
                    log.info("found dataset %s", display(name))
                except FutuError as error:
                    log.warning("dataset %s is passed over: %s", display(name), error)

    def dataset(self, name_or_id: str | int) -> DatasetRecord:
        """A dataset; folders added since the last look are found.

        Raises:
            UnknownDatasetError: no dataset has that name or id.
        """
        try:
            return self.catalogue.dataset(name_or_id)
        except FutuError:
            self.discover()
            return self.catalogue.dataset(name_or_id)

    def register(
        self, folder: str, name: str | None, questions: Sequence[Question] | None = None
    ) -> DatasetRecord:
        """Make a dataset of a folder inside the roots; one that is a dataset already is returned.

        Args:
            folder: of the pictures.
            name: None: the folder's.
            questions: those that it answers; None: as it was, or those of the settings.

        Raises:
            OutsideRootsError, MissingFileError: see ``ImageRoots.resolve``.
            InvalidRequestError: not a folder, or the name is taken.
        """
        real = self.roots.resolve(folder)
        if not real.is_dir():
            raise InvalidRequestError(f"{display(folder)} is not a folder.", folder=display(folder))
        if str(real) == os.path.realpath(self.settings.datasets_dir):
            raise InvalidRequestError(
                "This is the datasets folder itself; each of its sub-folders is a dataset."
            )
        self.discover()
        for dataset in self.catalogue.datasets():
            if dataset.folder == str(real) and name in (None, dataset.name):
                if questions is not None:
                    self.catalogue.set_questions(dataset.id, questions)
                return self.catalogue.dataset(dataset.id)
        chosen = questions or self.settings.questions
        return self.catalogue.add_dataset(name or display(real.name), str(real), chosen)

    def lacking(self, dataset: DatasetRecord, model_id: str) -> int:
        """How many images of a dataset have no vector of a model; counted anew now and then."""
        now = time.monotonic()
        kept = self._lacking.get((dataset.id, model_id))
        if kept is None or kept[0] < now:
            lacking = self.catalogue.lacking(dataset.id, model_id)
            kept = (time.monotonic() + _LACKING_CACHE_S, lacking)
            self._lacking[dataset.id, model_id] = kept
        return kept[1]

    def overview(self, dataset: DatasetRecord) -> tuple[int, str | None]:
        """For a dataset not indexed yet: its number of pictures and the first one's path.

        Counting walks the folder, so the answer is kept for a minute.
        """
        now = time.monotonic()
        kept = self._counts.get(dataset.id)
        if kept is None or kept[0] < now:
            paths = []
            try:
                paths = [f.path for f in walk(Path(dataset.folder), self.roots) if not f.error]
            except FutuError as error:
                log.warning("dataset %s: %s", dataset.name, error)
            kept = (now + _COUNT_CACHE_S, len(paths), paths[0] if paths else None)
            self._counts[dataset.id] = kept
        return kept[1], kept[2]
