"""What a search asks of the REST API and what it answers, for ``futu.client``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """A neighbour; ``similarity`` 0-100; ``match`` tells by which vectors it was found.

    ``size`` is in bytes, ``width`` and ``height`` in pixels of the upright picture,
    ``modified_at`` in ISO 8601.
    """

    idx: int
    id: int
    fname: str
    dataset: str
    similarity: float
    cosine: float
    img_url: str
    model_id: str = ""
    match: str = "similar"
    dataset_id: int = 0
    path: str = ""
    size: int = 0
    width: int = 0
    height: int = 0
    modified_at: str | None = None
    thumbnail_url: str = ""
    generation: str = ""


@dataclass(frozen=True)
class SearchPage:
    """Some results, best first.

    Attributes:
        next_offset: where the next page begins; None after the last one.
        generation: pages fit together as long as it is the same.
    """

    results: list[Result]
    mode: str
    model_id: str
    generation: str
    offset: int
    next_offset: int | None


@dataclass(frozen=True)
class SearchQuery:
    """A search: pictures to look for, which images it is about, and what of the answer is wanted.

    Attributes:
        images: files of this machine.
        image_ids: indexed images, for which no model is needed.
        content_hashes: the same, by SHA-256 in hex.
        indexed_at: the same, by dataset and path in it.
        url: of a picture in the web, if the controller allows it.
        unlike_images: files that say what is not wanted.
        unlike_ids: indexed images that do.
        unlike_weight: of the unwanted ones, 0 to 1; None: the controller's.
        crop: x, y, width, height of the first picture.
        crop_unit: of these, ``pixels`` or ``fractions``.
        datasets: names; none means all.
        path_prefix: what paths in the dataset begin with.
        after: first day or time at which the files were last modified; text in ISO 8601.
        before: day or time before which they were.
        min_size: of the files, bytes.
        max_size: of the files, bytes.
        min_width: pixels; also the three that follow.
        min_similarity: 0-100.
        mode: ``similar``, ``copy`` or ``auto``.
        top_k: how many results, 1-1000.
        offset: how many come before.
    """

    images: Sequence[Path] = ()
    image_ids: Sequence[int] = ()
    content_hashes: Sequence[str] = ()
    indexed_at: tuple[str, str] | None = None
    url: str | None = None
    unlike_images: Sequence[Path] = ()
    unlike_ids: Sequence[int] = ()
    unlike_weight: float | None = None
    crop: tuple[float, float, float, float] | None = None
    crop_unit: str = "pixels"
    datasets: Sequence[str] = ()
    path_prefix: str | None = None
    after: str | date | None = None
    before: str | date | None = None
    min_size: int | None = None
    max_size: int | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    min_similarity: float = 0.0
    mode: str = "similar"
    top_k: int = 10
    offset: int = 0

    def form(self) -> dict[str, Any]:
        """The fields of the request; lists are fields that are repeated."""
        place, crop = self.indexed_at or (None, None), self.crop or (None,) * 4
        fields: dict[str, Any] = {
            "dataset_names[]": list(self.datasets),
            "image_id": list(map(str, self.image_ids)),
            "content_hash": list(self.content_hashes),
            "query_dataset": place[0],
            "query_path": place[1],
            "query_url": self.url,
            "negative_id": list(map(str, self.unlike_ids)),
            "negative_weight": self.unlike_weight,
            **dict(zip(("crop_x", "crop_y", "crop_w", "crop_h"), crop)),
            "crop_unit": self.crop_unit,
            "path_prefix": self.path_prefix,
            "after": _text(self.after),
            "before": _text(self.before),
            "min_size": self.min_size,
            "max_size": self.max_size,
            "min_width": self.min_width,
            "max_width": self.max_width,
            "min_height": self.min_height,
            "max_height": self.max_height,
            "min_similarity": self.min_similarity,
            "mode": self.mode,
            "top_k": self.top_k,
            "offset": self.offset,
        }
        return {
            name: value if isinstance(value, list) else str(value)
            for name, value in fields.items()
            if value not in (None, [])
        }

    def uploads(self) -> list[tuple[str, Path]]:
        """Field and file of each picture that is sent."""
        return [
            *(("query_img", path) for path in self.images),
            *(("negative_img", path) for path in self.unlike_images),
        ]


def _text(moment: str | date | None) -> str | None:
    return moment.isoformat() if isinstance(moment, date) else moment
