"""Edits of a user's own pictures, searched for in the dataset that the pictures are from."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from futu.client import Client, Result, SearchQuery
from futu.errors import FutuError
from futu.images.decode import DecodeLimits, decode
from futu.images.edits import COMMON, edited
from futu.images.likeness import Grey, plainly_same, shrunk

_THREADS = 4
_NEIGHBOURS = 25
_LOOKED_AT = 0.5
"""Cosine from which another picture is compared by its pixels, so that a copy is no mistake."""

_SIDE = 1024
_WORST = 10


@dataclass(frozen=True)
class Mistake:
    """A picture that looks like an edited copy of another to the model."""

    cosine: float
    edit: str
    original: str
    other: str


@dataclass
class Measured:
    """What was measured.

    Attributes:
        copies: edit -> cosines of its copies to their originals; -1: it was not among the nearest.
        others: cosines of the copies to other pictures.
        same: pairs of originals that are plainly the same picture, and so no mistakes.
        skipped: sentences about pictures that could not be used.
        worst: the highest of ``others``.
    """

    copies: dict[str, list[float]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    same: set[tuple[int, int]] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    worst: list[Mistake] = field(default_factory=list)


class Measuring:
    """Makes edits and searches for them.

    Args:
        client: of the controller.
        dataset: its name.
        seed: of all chance.
        step: told when a picture is done.
    """

    def __init__(self, client: Client, dataset: str, seed: int, step: Callable[[], None]) -> None:
        self._client = client
        self._dataset = dataset
        self._seed = seed
        self._step = step
        self._shrunk: dict[int, Grey] = {}
        self._lock = threading.Lock()
        self._found = Measured({edit.name: [] for edit in COMMON})

    def measure(self, images: Sequence[Mapping[str, Any]]) -> Measured:
        """Edit each picture in every way, and search for all that comes of it.

        Args:
            images: as ``Client.calibration_sample`` gives them.

        Raises:
            FutuError: a search fails for another reason than the picture.
        """
        with (
            tempfile.TemporaryDirectory(prefix="futu-calibrate-") as folder,
            ThreadPoolExecutor(_THREADS) as pool,
        ):
            list(pool.map(lambda image: self._one(image, Path(folder)), images))
        self._found.worst.sort(key=lambda mistake: -mistake.cosine)
        del self._found.worst[_WORST:]
        return self._found

    def _one(self, image: Mapping[str, Any], folder: Path) -> None:
        try:
            data = self._client.picture(image["image_url"])
            pixels = decode(data, DecodeLimits(), target=_SIDE, name=image["path"])
        except FutuError as error:
            with self._lock:
                self._found.skipped.append(f"{image['path']}: {error.message}")
            self._step()
            return
        picture = Image.fromarray(pixels)
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        for number, edit in enumerate(COMMON):
            file = folder / f"{image['id']}-{number}.jpg"
            file.write_bytes(edited(edit, picture, picture, f"{self._seed} {image['path']}"))
            try:
                query = SearchQuery(
                    images=[file], datasets=[self._dataset], mode="copy", top_k=_NEIGHBOURS
                )
                results = self._client.search_page(query).results
            finally:
                with contextlib.suppress(OSError):
                    file.unlink()
            self._take(image, edit.name, results)
        self._step()

    def _take(self, image: Mapping[str, Any], edit: str, results: Sequence[Result]) -> None:
        own, others = -1.0, list[Result]()
        for result in results:
            if result.id == image["id"] or self._same(image["id"], result):
                own = max(own, result.cosine)
            else:
                others.append(result)
        with self._lock:
            self._found.copies[edit].append(own)
            self._found.others += [result.cosine for result in others]
            self._found.worst += [
                Mistake(r.cosine, edit, image["path"], r.path) for r in others[:1]
            ]

    def _same(self, image_id: int, result: Result) -> bool:
        pair = (min(image_id, result.id), max(image_id, result.id))
        if pair in self._found.same:
            return True
        if result.cosine < _LOOKED_AT:
            return False
        same = plainly_same(self._small(image_id), self._small(result.id))
        if same:
            with self._lock:
                self._found.same.add(pair)
        return same

    def _small(self, image_id: int) -> Grey:
        known = self._shrunk.get(image_id)
        if known is None:
            data = self._client.thumbnail(image_id)
            known = shrunk(decode(data, DecodeLimits(), target=32, name=f"image {image_id}"))
            self._shrunk[image_id] = known
        return known
