"""What keeps an index good: it is measured as it changes and built anew when its size asks for it.

Searches and changes go on meanwhile; the new index replaces the old one when it has all its ids.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from futu.errors import InvalidRequestError
from futu.index import policy, tuning
from futu.index.base import Floats, Ids, Index
from futu.index.faiss_index import FaissIndex
from futu.index.tuning import Measured

if TYPE_CHECKING:
    from futu.index.live import LiveIndex

    Fetch = Callable[[Sequence[int]], Iterator[tuple[Ids, Floats]]]

log = logging.getLogger(__name__)

_MEASURE_SHARE = 0.1
_TUNE_GROWTH = 2
_REST_AFTER_ERROR_S = 60.0
_STOP_S = 2.0
_ROWS = 16_384


class _StoppedError(Exception):
    """The controller ends."""


@dataclass(frozen=True)
class Rebuild:
    """A rebuild that has ended.

    Attributes:
        before, after: what was measured; None when there was nothing to measure.
        seconds: how long it took.
        error: why it failed; empty: it did not.
    """

    reason: str
    before: Measured | None
    after: Measured | None
    seconds: float
    error: str = ""


def _threads() -> int:
    """For building: searches keep some of the processor."""
    return max(1, (os.cpu_count() or 1) - 1)


class Keeper:
    """Looks after the index of a ``LiveIndex``, with one thread that lives while there is work.

    Attributes:
        measured: the last measurement.
        doing: what is being done: "", "measuring" or "rebuilding".
        last: the last rebuild.
        wanted: recall@10 to be held.
    """

    def __init__(self, live: LiveIndex) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked: str | None = None
        self._rest_until = 0.0
        self._seed = 0
        self.wanted: float | None = None
        self.measured: Measured | None = None
        self.doing = ""
        self.last: Rebuild | None = None

    def look(self) -> None:
        """Begin what is due, in the background; quick when nothing is."""
        index = self._live.index
        if not isinstance(index, FaissIndex) or self._stopping.is_set():
            return
        if self._due(index) is None and not self._to_measure(index):
            return
        if time.monotonic() >= self._rest_until:
            self._work()

    def rebuild(self, reason: str, wanted: float | None = None) -> None:
        """Build anew in the background, tuned to a recall@10; None: as before.

        Raises:
            InvalidRequestError: another program keeps the index, and tunes it.
        """
        if not isinstance(self._live.index, FaissIndex):
            raise InvalidRequestError(
                f"The index of {self._live.model_id} is kept by its own server; tune it there."
            )
        if wanted is not None:
            self.wanted = wanted
        self._asked = reason
        self._work()

    def latest(self) -> Measured | None:
        """The last measurement, or a new one when there is none or much has changed since."""
        index = self._live.index
        if not isinstance(index, FaissIndex) or index.source is None:
            return None
        if self._outdated(index) and not self.doing:
            self.measured = tuning.measure(index, *tuning.sample(index, tuning.QUERIES))
        return self.measured

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there is nothing to do; whether there is not."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def stop(self) -> None:
        """Begin nothing any more. What cannot be interrupted ends with the process."""
        self._stopping.set()
        self.wait(_STOP_S)

    def recall(self, index: FaissIndex) -> float:
        """The recall@10 that an index is held to."""
        return index.tuning.wanted if self.wanted is None else self.wanted

    def _work(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="index keeper", daemon=True)
                self._thread.start()

    def _due(self, index: FaissIndex) -> policy.Plan | None:
        return policy.due(index.kind, len(index), index.rows.dead, index.dimension)

    def _to_measure(self, index: FaissIndex) -> bool:
        return index.kind != policy.FLAT and self._outdated(index)

    def _outdated(self, index: FaissIndex) -> bool:
        last = self.measured
        return last is None or abs(len(index) - last.vectors) > _MEASURE_SHARE * last.vectors

    def _run(self) -> None:
        while not self._stopping.is_set():
            index = self._live.index
            if not isinstance(index, FaissIndex):
                return
            plan, reason = self._due(index), self._asked
            if plan is None and reason is not None:
                plan = policy.plan(len(index), index.dimension)
            self._asked = None
            try:
                if plan is not None:
                    self.doing = "rebuilding"
                    self._rebuild(index, plan, reason or plan.reason)
                elif self._to_measure(index):
                    self.doing = "measuring"
                    self._measure(index)
                else:
                    return
            except _StoppedError:
                return
            except Exception as error:
                # The index in use goes on; a catalogue that is locked or away may come back.
                log.exception("index %s: %s failed", self._live.path.name, self.doing)
                self._rest_until = time.monotonic() + _REST_AFTER_ERROR_S
                if plan is not None:
                    self.last = Rebuild(reason or plan.reason, None, None, 0.0, str(error))
                return
            finally:
                self.doing = ""

    def _measure(self, index: FaissIndex) -> None:
        """Measure, and tune again an index that has grown or finds too little.

        When tuning does not help, it is searched exactly until it is built anew.
        """
        name, wanted = self._live.path.name, self.recall(index)
        self._seed += 1
        queries = tuning.sample(index, tuning.QUERIES, self._seed)
        found = tuning.measure(index, *queries)
        if not index.exact and (
            found.recall < wanted or len(index) > _TUNE_GROWTH * index.tuning.vectors
        ):
            index.tuning = tuning.tune(index, *queries, wanted)
            before, found = found, tuning.measure(index, *queries)
            log.info(
                "index %s is tuned again: recall@10 %.4f, before %.4f",
                name, found.recall, before.recall,
            )  # fmt: skip
        log.info(
            "index %s: recall@10 %.4f, p50 %.2f ms, %d vectors",
            name, found.recall, found.p50_ms, found.vectors,
        )  # fmt: skip
        if found.recall < wanted and not index.exact:
            index.exact = True
            self._asked = f"recall@10 was {found.recall:.4f}, wanted are {wanted:.4f}"
            log.warning(
                "index %s: %s; all vectors are compared until it is built anew", name, self._asked
            )
        self.measured = found

    def _rebuild(self, old: FaissIndex, plan: policy.Plan, reason: str) -> None:
        begun, name = time.monotonic(), self._live.path.name
        log.info("index %s: %s is being built (%s)", name, plan.kind, reason)
        queries = tuning.sample(old, tuning.QUERIES)
        before = tuning.measure(old, *queries)
        source, ids = old.source, old.ids()
        assert source is not None  # noqa: S101 - who looks has levelled, and so attached one
        training = self.training(ids, plan.training, source) if plan.training else None
        new = FaissIndex(self._live.dimension, plan, training)
        new.source, new.threads = source, _threads()
        self._fill(new, ids, source)
        new.threads = 1
        new.tuning = tuning.tune(new, *queries, self.recall(old))
        self._live.swap(new, lambda index, current: self._catch_up(index, current, source))
        self.measured = after = tuning.measure(new, *queries)
        if after.recall < self.recall(old):
            new.exact = True
            log.warning("index %s: still only %.4f; all vectors are compared", name, after.recall)
        self.last = Rebuild(reason, before, after, time.monotonic() - begun)
        log.info(
            "index %s: %s in use after %.1f s (recall@10 %.4f, p50 %.2f ms; before: %s, %.2f ms)",
            name, new.kind, self.last.seconds, after.recall, after.p50_ms, old.kind, before.p50_ms,
        )  # fmt: skip
        self._live.save_soon()

    def training(self, ids: Ids, count: int, source: Fetch) -> Floats:
        """Random vectors of these ids, (n, dimension) float32."""
        chosen = np.random.default_rng(1).permutation(len(ids))[:count]
        rows: list[Floats] = []
        for _, vectors in source(ids[np.sort(chosen)].tolist()):
            self._check()
            rows.append(vectors.astype(np.float32))
        return np.concatenate(rows)

    def _fill(self, index: FaissIndex, ids: Ids, source: Fetch) -> None:
        for start in range(0, len(ids), _ROWS):
            for found, vectors in source(ids[start : start + _ROWS].tolist()):
                self._check()
                index.add(found, vectors)

    def _catch_up(self, index: FaissIndex, current: Index, source: Fetch) -> None:
        extra, lacking = index.difference(current.ids())
        index.remove(extra)
        self._fill(index, lacking, source)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError

    def facts(self) -> dict[str, Any]:
        """What there is to know, JSON-serialisable."""
        return {
            "measured": None if self.measured is None else asdict(self.measured),
            "doing": self.doing,
            "last_rebuild": None if self.last is None else asdict(self.last),
        }
