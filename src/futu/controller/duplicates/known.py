"""Do I have this already? Pictures that are not stored, against those of some datasets.

Equal bytes are found by their hash, without a model; edited copies by their vectors for ``copy``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from futu.catalogue.duplicate_schema import EXACT, NEAR
from futu.catalogue.records import DatasetRecord, ImageRecord, Scope
from futu.catalogue.store import Catalogue
from futu.controller.search import Search
from futu.errors import FutuError
from futu.images.decode import DecodeLimits, inspect
from futu.images.folder import hash_bytes
from futu.jobs.message import ImageItem, ItemResult, Stream

Status = Literal["known", "new", "error"]
Compared = Literal["nothing", "bytes", "vectors"]

MOST_MATCHES = 10


@dataclass(frozen=True)
class Match:
    """An image that is the same picture.

    Attributes:
        tier: ``exact`` (equal bytes) or ``near`` (told by the vectors for ``copy``).
        similarity: 0-100; see ``Scale``.
    """

    image: ImageRecord
    tier: str
    cosine: float
    similarity: float


@dataclass
class Checked:
    """What is known of a picture that was asked about.

    Attributes:
        name: as it was asked about.
        digest: its content hash; None when it could not be read.
        compared: by what: only its bytes, or its vector too.
    """

    name: str
    digest: bytes | None = None
    status: Status = "new"
    compared: Compared = "bytes"
    matches: list[Match] = field(default_factory=list)
    error: FutuError | None = None

    def fail(self, error: FutuError) -> None:
        """It could not be checked."""
        self.status, self.compared, self.error = "error", "nothing", error


@dataclass(frozen=True)
class Asked:
    """A picture, or the hash of one; ``error``: why there is neither."""

    name: str
    data: bytes | None = None
    digest: bytes | None = None
    error: FutuError | None = None


class KnownPictures:
    """Compares pictures with what is indexed. Nothing is stored.

    Args:
        catalogue: images by content.
        search: vectors, and their neighbours.
        limits: of pictures.
    """

    def __init__(self, catalogue: Catalogue, search: Search, limits: DecodeLimits) -> None:
        self._catalogue = catalogue
        self._search = search
        self._limits = limits

    def note(self, datasets: Sequence[DatasetRecord]) -> str:
        """What is not found in these datasets, and what to run; empty: all is looked for."""
        blind = [d.name for d in datasets if not self._search.is_indexed([d], "copy")]
        if not blind:
            return ""
        model = self._search.model_id("copy").rpartition("-")[0]
        return (
            f"Edited copies are not looked for in {', '.join(blind)}, which has no copy vectors. "
            f"Run 'futu models pull {model}' where a compute server runs, then 'futu index "
            "NAME --questions similar,copy'."
        )

    def check(
        self,
        asked: Sequence[Asked],
        datasets: Sequence[DatasetRecord],
        least: float,
        *,
        timeout_s: float,
        stream: Stream = "query",
    ) -> list[Checked]:
        """What is known of pictures, in their order.

        Args:
            asked: pictures; of one that is given by its hash only equal bytes are found.
            datasets: where to look.
            least: similarity from which a picture is known, 0-100.
            timeout_s: for compute servers.
            stream: by which they are asked.

        Raises:
            FutuError: what ``Search.extract`` raises; a picture that cannot be used is an entry.
        """
        digests = [a.digest if a.data is None else hash_bytes(a.data) for a in asked]
        there = sorted({digest for digest in digests if digest is not None})
        same = self._catalogue.images_of_contents(there, {dataset.id for dataset in datasets})
        checked = [self._by_bytes(*each, same) for each in zip(asked, digests)]
        if not self._search.is_indexed(datasets, "copy"):
            return checked
        left: list[tuple[Checked, ImageItem]] = []
        for each, one in zip(asked, checked):
            if one.status == "new" and each.data is not None:
                try:
                    inspect(each.data, self._limits, each.name)
                    left.append((one, ImageItem(data=each.data, name=each.name)))
                except FutuError as error:
                    one.fail(error)
        if left:
            items = [item for _, item in left]
            found = self._search.extract(items, stream, timeout_s, "copy")
            scope = Scope(tuple(sorted(dataset.id for dataset in datasets)))
            for (one, _), result in zip(left, found):
                self._by_vector(one, result, scope, least)
        return checked

    @staticmethod
    def _by_bytes(
        asked: Asked, digest: bytes | None, same: Mapping[bytes, Sequence[ImageRecord]]
    ) -> Checked:
        one = Checked(asked.name, digest)
        if asked.error is not None or digest is None:
            one.fail(asked.error or FutuError(f"{asked.name} was given neither bytes nor a hash."))
            return one
        found = same.get(digest, ())[:MOST_MATCHES]
        one.matches = [Match(image, EXACT, 1.0, 100.0) for image in found]
        one.status = "known" if found else "new"
        return one

    def _by_vector(self, one: Checked, result: ItemResult, scope: Scope, least: float) -> None:
        try:
            vector = self._search.vector_of(result, "copy")
        except FutuError as error:
            one.fail(error)
            return
        page = self._search.page(vector, scope, "copy", k=MOST_MATCHES, min_similarity=least)
        one.compared = "vectors"
        one.matches = [Match(n.image, NEAR, n.cosine, n.similarity) for n in page.neighbours]
        one.status = "known" if one.matches else "new"
