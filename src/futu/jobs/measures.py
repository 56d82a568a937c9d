"""What a process measures of its own work: counts, and how long stages take."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from futu.jobs.message import StageTimes

STAGE_BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Upper bounds of the classes that durations are counted in, seconds."""


class Measures:
    """Counts since the start of the process. Safe for several threads; a call takes microseconds.

    Lanes and stages are few and fixed, so that what is kept stays small.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._vectors: dict[str, int] = {}
        self._stages: dict[tuple[str, str], StageTimes] = {}

    def count(self, name: str, by: int = 1) -> None:
        """Something has happened ``by`` times."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + by

    def count_vectors(self, model_id: str, vectors: int) -> None:
        """A model has computed so many vectors."""
        with self._lock:
            self._vectors[model_id] = self._vectors.get(model_id, 0) + vectors

    def observe(self, lane: str, stage: str, seconds: float) -> None:
        """A stage has taken so long."""
        place = bisect_left(STAGE_BOUNDS_S, seconds)
        with self._lock:
            times = self._stages.get((lane, stage))
            if times is None:
                times = StageTimes(lane, stage, [0] * (len(STAGE_BOUNDS_S) + 1))
                self._stages[lane, stage] = times
            times.counts[place] += 1
            times.sum_s += seconds

    @contextmanager
    def timed(self, lane: str, stage: str) -> Iterator[None]:
        """Observe how long a block takes that ends well."""
        started = perf_counter()
        yield
        self.observe(lane, stage, perf_counter() - started)

    def counts(self) -> dict[str, int]:
        """What was counted, by name."""
        with self._lock:
            return dict(self._counts)

    def vectors(self) -> dict[str, int]:
        """Vectors computed, by model_id."""
        with self._lock:
            return dict(self._vectors)

    def stages(self) -> list[StageTimes]:
        """The times of all stages."""
        with self._lock:
            return [
                StageTimes(times.lane, times.stage, list(times.counts), times.sum_s)
                for times in self._stages.values()
            ]
