"""The models of a compute server: loaded when they are needed, given back when they are idle."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from futu.config import Settings
from futu.errors import ModelError
from futu.models.choice import Choice
from futu.models.extractor import Extractor
from futu.models.registry import default_spec, former_specs, specs
from futu.models.runtime import Runtime, load_runtime
from futu.models.spec import QUESTIONS, ModelSpec
from futu.models.store import is_in_place, model_file

log = logging.getLogger(__name__)

Lane = Literal["query", "library"]
"""A model for queries may use all cores for one call; one for datasets runs a call on each."""

_LOOK_EVERY_S = 2.0
_BATCHES = (4, 8, 16, 32)
_WORTH = 0.97
"""A larger batch is taken only where it needs at most this share of the time."""


@dataclass
class _Place:
    """A model on a lane: loaded or not."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    runtime: Runtime | None = None
    extractor: Extractor | None = None
    users: int = 0
    used_at: float = 0.0


class ModelHost:
    """All models that are known, as far as their files are in place.

    Datasets choose their models: any of them may be asked for. One that the settings choose is
    described as it was when this was made.

    Args:
        settings: which models are defaults, where models are, what runs them.
        workers: calls that run side by side on the lane ``library``.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._workers = workers
        self._choice = Choice.of(settings)
        self._defaults = [default_spec(question, settings) for question in QUESTIONS]
        self._wrong: set[str] = set()
        self._in_place: dict[str, ModelSpec] = {}
        self._looked_at: float | None = None
        self._places: dict[tuple[str, Lane], _Place] = {}
        self._batches: dict[str, int] = {}
        self._lock = threading.Lock()
        self._measuring = threading.Lock()

    @property
    def first(self) -> ModelSpec:
        """The model without which there is no search: that for ``similar``."""
        return self._defaults[0]

    def specs(self) -> dict[str, ModelSpec]:
        """By model_id, the models whose files are in place; pulled ones are found soon."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at > _LOOK_EVERY_S:
            models_dir = self._settings.models_dir
            self._in_place = {s.model_id: s for s in self._known() if is_in_place(s, models_dir)}
            self._looked_at = now
        return self._in_place

    def _known(self) -> Iterator[ModelSpec]:
        """The defaults, then all others that are described rightly, or were before."""
        yield from self._defaults
        yield from former_specs()
        chosen = {spec.name for spec in self._defaults}
        for name, found in specs(self._settings.models_dir):
            if name in chosen:
                continue
            if isinstance(found, ModelSpec):
                yield found
            elif found.message not in self._wrong:
                self._wrong.add(found.message)
                log.warning("the model %s cannot be used: %s", name, found.message)

    @contextlib.contextmanager
    def use(self, spec: ModelSpec, lane: Lane) -> Iterator[Extractor]:
        """A model, loaded now if it is not; it stays loaded until the block ends.

        Raises:
            ModelError: it is not in place or cannot be loaded.
            SettingsError: the runtime or device of the settings is not to be had here.
        """
        with self._lock:
            place = self._places.setdefault((spec.model_id, lane), _Place())
        with place.lock:
            extractor = place.extractor or self._load(place, spec, lane)
            place.users += 1
        try:
            yield extractor
        finally:
            with place.lock:
                place.users -= 1
                place.used_at = time.monotonic()

    def batch(self, spec: ModelSpec) -> int:
        """Pictures in one call on the lane ``library``; measured once and kept."""
        found = self._batches.get(spec.model_id)
        if found is None:
            # A lock of its own: queries use their models meanwhile.
            with self.use(spec, "library") as extractor, self._measuring:
                found = self._batches.get(spec.model_id) or _best_batch(extractor)
                self._batches[spec.model_id] = found
        return found

    def unload_idle(self) -> None:
        """Give back models that have not been used for ``FUTU_MODEL_IDLE_S``."""
        idle_s = self._settings.model_idle_s
        if idle_s:
            self._unload(time.monotonic() - idle_s)

    def close(self) -> None:
        """Give all back; none may be in use."""
        self._unload(float("inf"))

    def _unload(self, used_before: float) -> None:
        with self._lock:
            places = list(self._places.items())
        for (model_id, lane), place in places:
            if not place.lock.acquire(blocking=False):
                continue  # being loaded, which takes seconds: the keeper has heartbeats to send
            try:
                idle = place.users == 0 and place.used_at < used_before
                if place.runtime is None or not idle:
                    continue
                place.runtime.close()
                place.runtime = place.extractor = None
            finally:
                place.lock.release()
            log.info("unloaded %s (%s)", model_id, lane)

    def _load(self, place: _Place, spec: ModelSpec, lane: Lane) -> Extractor:
        file = model_file(spec, self._settings.models_dir)
        if lane == "query":
            runtime = load_runtime(spec, file, self._choice, threads=os.cpu_count() or 1)
        else:
            runtime = load_runtime(spec, file, self._choice, parallel=self._workers)
        place.runtime, place.extractor = runtime, Extractor(spec, runtime)
        return place.extractor


def _best_batch(extractor: Extractor) -> int:
    """The batch size with the least time for a picture; the smaller when it hardly matters."""
    spec = extractor.spec
    best, best_s = _BATCHES[0], float("inf")
    # What a first call compiles or allocates is not measured.
    _time(extractor, best)
    for size in _BATCHES:
        try:
            took_s = _time(extractor, size) / size
        except (ModelError, MemoryError) as error:
            log.warning("%s does not do batches of %d: %s", spec.name, size, error)
            break
        if took_s > best_s * _WORTH:
            break
        best, best_s = size, took_s
    log.info("%s: batches of %d, %.1f ms a picture", spec.model_id, best, best_s * 1000)
    return best


def _time(extractor: Extractor, count: int) -> float:
    """Seconds for a batch of so many."""
    side = extractor.spec.input_size
    pixels = np.zeros((count, side, side, 3), np.uint8)
    started = time.perf_counter()
    extractor.extract(pixels)
    return time.perf_counter() - started
