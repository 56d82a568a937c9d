"""One search for duplicates: equal files, near vectors, equal pixels, groups.

Memory is bounded by what is found: of all other images only an id and a short list of neighbours
is held (some 70 bytes each).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from futu.catalogue.duplicate_records import FoundGroup
from futu.catalogue.records import ModelRecord
from futu.catalogue.store import Catalogue
from futu.controller.calibrations import Calibrations
from futu.controller.duplicates.component import (
    LARGE,
    Contents,
    Known,
    Parting,
    by_pairs,
    by_vectors,
)
from futu.controller.duplicates.decided import Decided
from futu.controller.duplicates.groups import Ids, Pairs, components
from futu.controller.duplicates.neighbourhood import Neighbourhood, Rule
from futu.controller.duplicates.pixels import PixelHashes
from futu.controller.duplicates.presets import rule_of
from futu.controller.keeping import RULES
from futu.controller.serving import Serving
from futu.controller.used_indexes import UsedIndexes
from futu.errors import FutuError
from futu.index.live import LiveIndex
from futu.models.similarity import Scale

log = logging.getLogger(__name__)

SAME_PIXELS = 0.98
"""Cosine from which pictures of one size may have the same pixels. Different ways to decode (a JPEG
at a reduced scale, the same pixels as PNG whole) give 0.99 and more."""

_COMPONENTS_AT_ONCE = 500

Step = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and of how much; may raise to end the search."""


@dataclass(frozen=True)
class Finders:
    """Makes a search for each run.

    Attributes:
        catalogue: images, vectors, decisions.
        pixels: hashes of pixels.
        serving: which models datasets have.
        used: their indexes.
        keep: the rules that choose keepers, the weightiest first.
        calibrations: what thresholds mean, and what suits a dataset; None: a threshold is a cosine
            times 100, and presets are the same for all.
    """

    catalogue: Catalogue
    pixels: PixelHashes
    serving: Serving
    used: UsedIndexes
    keep: Sequence[str] = RULES
    calibrations: Calibrations | None = None

    def rule(self, preset: str, threshold: float | None, dataset_ids: Collection[int]) -> Rule:
        """The rule that a preset or a threshold stands for; see ``Calibrations.rule``."""
        if self.calibrations is None:
            return rule_of(preset, threshold)
        return self.calibrations.rule(preset, threshold, dataset_ids)

    def model(self, dataset_ids: Collection[int]) -> ModelRecord:
        """Whose vectors are compared."""
        return self.serving.mainly("copy", dataset_ids)

    def shown(self, rule: Rule, model: ModelRecord) -> float:
        """The similarity that a rule asks for, by the scale of a model."""
        return self.serving.scale(model.model_id).similarity(rule.sure)

    def make(self, rule: Rule, dataset_ids: Collection[int], step: Step) -> Finder:
        """The search of a run; see ``Finder``."""
        copy = self.model(dataset_ids)
        live = self.used.level_of(copy)
        similar = self.used.level_of(self.serving.mainly("similar", dataset_ids))
        return Finder(
            self.catalogue,
            self.pixels,
            copy,
            live,
            similar,
            rule,
            dataset_ids,
            step,
            self.keep,
            self.serving.scale(copy.model_id),
        )


class Finder:
    """Searches for duplicates among the images of some datasets.

    Args:
        catalogue: images, vectors, decisions.
        pixels: hashes of pixels.
        copy: the model for ``copy``.
        live: its index; None: it serves no dataset.
        similar: that of the model for ``similar``: without the other it tells what may have the
            same pixels.
        rule: when two are copies.
        dataset_ids: the scope.
        step: see ``Step``.
        keep: the rules that choose keepers, the weightiest first.
        scale: what cosines are shown as.

    Attributes:
        images: how many were looked through.
        notes: sentences for people about what was not looked for.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        pixels: PixelHashes,
        copy: ModelRecord,
        live: LiveIndex | None,
        similar: LiveIndex | None,
        rule: Rule,
        dataset_ids: Collection[int],
        step: Step,
        keep: Sequence[str] = RULES,
        scale: Scale | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._pixels = pixels
        self._copy, self._live, self._similar = copy, live, similar
        self._rule = rule
        self._scope = sorted(dataset_ids)
        self._step = step
        self._keep = keep
        self._scale = scale or Scale()
        self._around: Neighbourhood | None = None
        self.images = 0
        self.notes: list[str] = []

    def find(self) -> Iterator[FoundGroup]:
        """The groups, each in the state that it has after what people decided before.

        Raises:
            FutuError: the catalogue or the index cannot be used; or what ``step`` raises.
        """
        counts = self._catalogue.image_counts()
        self.images = sum(counts.get(key, 0) for key in self._scope)
        self._step("files", 0, self.images)
        repeated = self._catalogue.repeated_contents(self._scope)
        self._step("files", self.images, self.images)
        pairs, compares = self._near()
        contents, pairs = self._contents(repeated, pairs)
        pairs = self._with_pixels(contents, pairs, compares=compares)
        alone = np.arange(len(contents.hashes))
        # A content that several files have is a component, if only of itself.
        joined = Pairs(
            np.concatenate([pairs.left, alone]),
            np.concatenate([pairs.right, alone]),
            np.concatenate([pairs.cosines, np.ones(len(alone), np.float32)]),
        )
        # In the order in which their images came.
        found = sorted(
            components(joined),
            key=lambda places: min(contents.images[place][0].id for place in places.tolist()),
        )
        yield from self._groups(contents, found, pairs, compares=compares)

    def _near(self) -> tuple[Pairs, bool]:
        """Pairs of vector ids that may be copies; and whether their cosines say so."""
        model, rule, compares = self._copy, self._rule, True
        live, ids = self._live, self._ids(self._live)
        if not len(ids):
            self.notes.append(
                "There are no copy vectors, so edited copies were not looked for. Run 'futu models "
                f"pull {model.name}' where a compute server runs, then 'futu index NAME "
                "--questions similar,copy' for each dataset."
            )
            rule, compares = Rule(SAME_PIXELS), False
            live, ids = self._similar, self._ids(self._similar)
        elif lacking := sum(self._catalogue.lacking(key, model.model_id) for key in self._scope):
            self.notes.append(
                f"{lacking} images have no copy vectors of {model.name} and were compared by their "
                "bytes only; run 'futu index NAME --questions similar,copy', and where another "
                f"model serves first 'futu models use NAME {model.name}'."
            )
        if live is None or len(ids) < 2:
            return Pairs.join([]), compares
        around = Neighbourhood(
            ids,
            live.index,
            self._catalogue.vectors,
            rule,
            whole=len(ids) == len(live.index),
            step=lambda done: self._step("vectors", done, len(ids)),
        )
        self._around = around
        return around.pairs(), compares

    def _ids(self, live: LiveIndex | None) -> Ids:
        if live is None:
            return np.empty(0, np.int64)
        return self._catalogue.searchable_vector_ids(live.model_id, self._scope)

    def _contents(self, repeated: Sequence[bytes], near: Pairs) -> tuple[Contents, Pairs]:
        """What the catalogue has of these contents; and the pairs by their places among them."""
        owners = self._catalogue.contents_of(near.ids().tolist()) if len(near) else {}
        vector_of = {digest: vector_id for vector_id, digest in owners.items()}
        wanted = sorted({*repeated, *owners.values()})
        images = self._catalogue.ready_images(wanted, self._scope)
        # What went meanwhile is no duplicate any more.
        hashes = [digest for digest in wanted if digest in images]
        contents = Contents(
            hashes, [images[h] for h in hashes], [vector_of.get(h, -1) for h in hashes]
        )
        place = {digest: number for number, digest in enumerate(hashes)}
        places = {vector_id: place.get(digest, -1) for vector_id, digest in owners.items()}
        left = np.array([places.get(key, -1) for key in near.left.tolist()], np.int64)
        right = np.array([places.get(key, -1) for key in near.right.tolist()], np.int64)
        there = (left >= 0) & (right >= 0)
        return contents, Pairs(left[there], right[there], near.cosines[there])

    def _with_pixels(self, contents: Contents, pairs: Pairs, *, compares: bool) -> Pairs:
        """Work out hashes of pixels where they may be equal; the pairs that are left."""
        maybe = pairs.cosines >= SAME_PIXELS
        same_size = [
            (one, other)
            for one, other in zip(pairs.left[maybe].tolist(), pairs.right[maybe].tolist())
            if contents.size(one) == contents.size(other)
        ]
        asked = sorted({place for pair in same_size for place in pair})
        contents.pixels = self._pixels.known([contents.hashes[place] for place in asked])
        unknown = [
            contents.images[place][0]
            for place in asked
            if contents.hashes[place] not in contents.pixels
        ]
        self._step("pixels", 0, len(unknown))
        folders = {dataset.id: dataset.folder for dataset in self._catalogue.datasets()}
        try:
            contents.pixels |= self._pixels.find(
                unknown, folders, lambda done: self._step("pixels", done, len(unknown))
            )
        except FutuError as error:
            log.warning("pixels are not compared: %s", error)
            self.notes.append(f"Pixels were not compared: {error.message}")
        if compares:
            return pairs
        equal = [pair for pair in same_size if contents.same_pixels(*pair)]
        places = np.array(equal, np.int64).reshape(-1, 2)
        return Pairs(places[:, 0], places[:, 1], np.ones(len(equal), np.float32))

    def _groups(
        self, contents: Contents, found: Sequence[Ids], pairs: Pairs, *, compares: bool
    ) -> Iterator[FoundGroup]:
        decided = Decided(self._catalogue.verdicts())
        reference = {d.id for d in self._catalogue.datasets() if d.reference}
        around = self._around if compares else None
        parting = Parting(contents, around, reference, self._keep, self._scale)
        done = 0
        while done < len(found):
            self._step("groups", done, len(found))
            some, known = self._some(contents, found[done:], pairs)
            for places in some:
                for members in parting.groups(places.tolist(), known):
                    yield decided.apply(members)
            done += len(some)
        self._step("groups", done, len(found))

    def _some(
        self, contents: Contents, found: Sequence[Ids], pairs: Pairs
    ) -> tuple[Sequence[Ids], Known]:
        """The next components, as many as may be dealt with at once, and their cosines."""
        sizes = np.cumsum([len(places) for places in found[:_COMPONENTS_AT_ONCE]])
        count = max(1, int(np.searchsorted(sizes, LARGE, side="right")))
        some = found[:count]
        if sizes[count - 1] > LARGE:
            inside = np.isin(pairs.left, some[0])
            ours = Pairs(pairs.left[inside], pairs.right[inside], pairs.cosines[inside])
            return some, by_pairs(ours, contents.vector_ids)
        ids = [contents.vector_ids[place] for places in some for place in places.tolist()]
        return some, by_vectors(ids, self._catalogue.vectors)
