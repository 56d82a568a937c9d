"""Do I have this already? Pictures that are not stored, against those of some datasets.

Equal bytes are found by their hash, without a model; edited copies by their vectors for ``copy``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from futu.catalogue.duplicate_schema import EXACT, NEAR
from futu.catalogue.records import DatasetRecord, ImageRecord, ModelRecord
from futu.catalogue.store import Catalogue
from futu.controller.extraction import Extraction
from futu.controller.search import Search, Vector
from futu.controller.serving import Serving
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
        search: neighbours of vectors.
        extraction: asks compute servers for vectors.
        serving: which models datasets have.
        limits: of pictures.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        search: Search,
        extraction: Extraction,
        serving: Serving,
        limits: DecodeLimits,
    ) -> None:
        self._catalogue = catalogue
        self._search = search
        self._extraction = extraction
        self._serving = serving
        self._limits = limits

    def note(self, datasets: Sequence[DatasetRecord]) -> str:
        """What is not found in these datasets, and what to run; empty: all is looked for."""
        seen = {dataset.id for dataset in self._search.indexed(datasets, "copy")}
        blind = [dataset.name for dataset in datasets if dataset.id not in seen]
        if not blind:
            return ""
        model = self._serving.defaults["copy"].name
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
            FutuError: what ``Extraction.extract`` raises; a bad picture is an entry.
        """
        digests = [a.digest if a.data is None else hash_bytes(a.data) for a in asked]
        there = sorted({digest for digest in digests if digest is not None})
        same = self._catalogue.images_of_contents(there, {dataset.id for dataset in datasets})
        checked = [self._by_bytes(*each, same) for each in zip(asked, digests)]
        if not self._search.indexed(datasets, "copy"):
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
            answering = self._search.answering("copy")
            models = {answering[d.id] for d in datasets if d.id in answering}
            found = {
                model: self._extraction.extract(items, stream, timeout_s, model) for model in models
            }
            for place, (one, _) in enumerate(left):
                results = {model: results[place] for model, results in found.items()}
                self._by_vector(one, results, datasets, least)
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

    def _by_vector(
        self,
        one: Checked,
        results: Mapping[ModelRecord, ItemResult],
        datasets: Sequence[DatasetRecord],
        least: float,
    ) -> None:
        def vectors(
            needed: Sequence[ModelRecord], _: Sequence[ModelRecord]
        ) -> Mapping[str, Vector]:
            return {
                model.model_id: self._extraction.vector_of(results.get(model, ItemResult()), model)
                for model in needed
            }

        try:
            page = self._search.find(
                vectors, datasets, "copy", k=MOST_MATCHES, min_similarity=least
            )
        except FutuError as error:
            one.fail(error)
            return
        one.compared = "vectors"
        one.matches = [Match(n.image, NEAR, n.cosine, n.similarity) for n in page.neighbours]
        one.status = "known" if one.matches else "new"
