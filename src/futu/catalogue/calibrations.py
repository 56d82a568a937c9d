"""What was measured with the pictures of a dataset."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select

from futu.catalogue.duplicate_schema import Calibration
from futu.catalogue.session import Session, now


@dataclass(frozen=True)
class CalibrationRecord:
    """Thresholds that suit a dataset.

    Attributes:
        model_id: whose cosines they are.
        facts: what was measured, as JSON has it; ``presets``: name -> cosine.
    """

    dataset_id: int
    model_id: str
    measured_at: datetime
    facts: dict[str, Any]

    @property
    def presets(self) -> dict[str, float]:
        """Cosines by the names of presets."""
        return {name: float(cosine) for name, cosine in self.facts["presets"].items()}


class CalibrationQueries(Session):
    """Calibrations."""

    def keep_calibration(self, dataset_id: int, model_id: str, facts: dict[str, Any]) -> None:
        """Keep what was measured; it takes the place of what was before."""
        this = (Calibration.dataset_id == dataset_id) & (Calibration.model_id == model_id)
        row = {"dataset_id": dataset_id, "model_id": model_id, "measured_at": now()}
        with self.write() as db:
            db.execute(delete(Calibration).where(this))
            db.execute(insert(Calibration).values(**row, facts=json.dumps(facts)))

    def forget_calibration(self, dataset_id: int) -> bool:
        """Forget what was measured with a dataset; False when nothing was."""
        with self.write() as db:
            gone = db.execute(delete(Calibration).where(Calibration.dataset_id == dataset_id))
            return bool(gone.rowcount)

    def calibration(self, dataset_id: int, model_id: str) -> CalibrationRecord | None:
        """What was measured with a dataset and a model, if anything was."""
        found = self.calibrations([dataset_id], model_id)
        return found.get(dataset_id)

    def calibrations(
        self, dataset_ids: Collection[int], model_id: str
    ) -> dict[int, CalibrationRecord]:
        """Dataset id -> what was measured with it, for those with which anything was."""
        query = select(
            Calibration.dataset_id, Calibration.model_id, Calibration.measured_at, Calibration.facts
        ).where(Calibration.dataset_id.in_(dataset_ids), Calibration.model_id == model_id)
        with self.read() as db:
            return {
                row[0]: CalibrationRecord(row[0], row[1], row[2], json.loads(row[3]))
                for row in db.execute(query)
            }
