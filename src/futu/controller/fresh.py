"""Values worked out from the catalogue, kept while they are fresh enough for what they cost."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

_CHEAP_S = 0.02
_REST = 4.0
"""A value that took t seconds to work out is good for this times t, whatever has changed."""


@dataclass(slots=True)
class _Kept(Generic[Value]):
    version: int
    value: Value
    cost_s: float
    made_at: float


class FreshCache(Generic[Value]):
    """Values by key. One that is cheap is always worked out anew after a change.

    One that costs more than ``_CHEAP_S`` may be as old as ``_REST`` times its cost, so that a
    collection that grows all the time is not read again for every search; and while it is worked
    out, others get the old one. Safe for several threads.

    Args:
        size: how many values are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, _Kept[Value]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, version: int, make: Callable[[], Value]) -> Value:
        """The value of a key.

        Args:
            key: what it is of.
            version: of what it is made from; read before ``make`` is called.
            make: works it out.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                dear = kept.cost_s > _CHEAP_S
                if kept.version == version or (dear and self._rests(kept)):
                    return kept.value
                if dear and key in self._making:
                    return kept.value  # somebody is at it
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None and kept.version == version:
                    return kept.value
            return self._make(key, version, make)

    def _make(self, key: Hashable, version: int, make: Callable[[], Value]) -> Value:
        began = time.monotonic()
        try:
            value = make()
        finally:
            with self._lock:
                self._making.pop(key, None)
        ended = time.monotonic()
        with self._lock:
            self._kept[key] = _Kept(version, value, ended - began, ended)
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value

    @staticmethod
    def _rests(kept: _Kept[Value]) -> bool:
        return time.monotonic() - kept.made_at < _REST * kept.cost_s
