"""What suits a dataset: thresholds measured with its own pictures, and the rules they make."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from futu.catalogue.calibrations import CalibrationRecord
from futu.catalogue.records import ImageRecord
from futu.catalogue.store import Catalogue
from futu.controller.duplicates import presets
from futu.controller.duplicates.neighbourhood import Rule
from futu.controller.serving import Serving
from futu.errors import InvalidRequestError
from futu.models.similarity import PRESETS, Scale


class Calibrations:
    """Thresholds by name or number, with what was measured with the datasets they are for.

    Args:
        catalogue: keeps what was measured.
        serving: which models datasets have.
    """

    def __init__(self, catalogue: Catalogue, serving: Serving) -> None:
        self._catalogue = catalogue
        self._serving = serving

    def model_id(self, dataset_ids: Collection[int]) -> str:
        """The model that tells copies in some datasets."""
        return self._serving.mainly("copy", dataset_ids).model_id

    def scale(self, dataset_ids: Collection[int]) -> Scale:
        """Of its cosines."""
        return self._serving.scale(self.model_id(dataset_ids))

    def of(self, dataset_id: int) -> CalibrationRecord | None:
        """What was measured with a dataset under the model in use, if anything was."""
        return self._catalogue.calibration(dataset_id, self.model_id([dataset_id]))

    def keep(self, dataset_id: int, model_id: str, facts: dict[str, Any]) -> None:
        """Keep what was measured with a dataset.

        Args:
            dataset_id: whose pictures.
            model_id: whose cosines.
            facts: JSON; ``presets`` has a cosine for each of ``PRESETS``.

        Raises:
            InvalidRequestError: the model is not in use, or the presets are no thresholds.
        """
        used = self.model_id([dataset_id])
        if model_id != used:
            raise InvalidRequestError(
                f"The calibration is for {model_id[:80]!r}, but copies are told by {used}. "
                "Calibrate again.",
                field="model_id",
            )
        given = facts.get("presets")
        named = list(PRESETS)
        cosines = [given.get(name) for name in named] if isinstance(given, dict) else []
        numbers = [c for c in cosines if isinstance(c, int | float) and not isinstance(c, bool)]
        falling = len(numbers) == len(named) and sorted(numbers, reverse=True) == numbers
        if not falling or not all(0 < number <= 1 for number in numbers):
            raise InvalidRequestError(
                f"The field presets must have a cosine above 0, at most 1, for each of "
                f"{', '.join(named)}, none higher than the one before.",
                field="presets",
            )
        self._catalogue.keep_calibration(dataset_id, model_id, facts)

    def sample(self, dataset_id: int, count: int, seed: int) -> list[ImageRecord]:
        """Searchable images of a dataset chosen by chance, each content at most once."""
        ids = self._catalogue.image_of_each_content(dataset_id)
        chosen = random.Random(seed).sample(ids, min(count, len(ids)))  # noqa: S311 - no secret
        return [self._catalogue.image(image_id) for image_id in sorted(chosen)]

    def least(self, preset: str, threshold: float | None, dataset_ids: Collection[int]) -> float:
        """The similarity from which two pictures are the same one, 0-100.

        Args:
            preset: a name of ``PRESETS``; not looked at when there is a threshold.
            threshold: 50-100.
            dataset_ids: the datasets it is for. A preset is what was measured with them, the
                strictest of several; the model's own when one of them was not measured.

        Raises:
            InvalidRequestError: there is no such preset, or the threshold is out of range.
        """
        presets.check(preset, threshold)
        if threshold is not None:
            return threshold
        model_id = self.model_id(dataset_ids)
        measured = self._measured(preset, dataset_ids, model_id)
        if measured is None:
            return PRESETS[preset]
        return self._serving.scale(model_id).similarity(measured)

    def rule(self, preset: str, threshold: float | None, dataset_ids: Collection[int]) -> Rule:
        """The rule by which duplicates are found; arguments and errors as for ``least``."""
        presets.check(preset, threshold)
        model_id = self.model_id(dataset_ids)
        if threshold is not None:
            return Rule(self._serving.scale(model_id).cosine(threshold))
        rule = presets.rule_of(preset)
        measured = self._measured(preset, dataset_ids, model_id)
        return rule if measured is None else replace(rule, sure=max(measured, rule.floor))

    def _measured(self, preset: str, dataset_ids: Collection[int], model_id: str) -> float | None:
        wanted = set(dataset_ids)
        found = self._catalogue.calibrations(wanted, model_id)
        if not wanted or set(found) != wanted:
            return None
        return max(record.presets[preset] for record in found.values())
