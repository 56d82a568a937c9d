"""A lock that many searches hold together and a change holds alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gate:
    """Searches pass together; changes pass one by one, and let searches pass in between.

    A change waits for the searches inside. Those that come meanwhile wait for the change, and the
    next change waits for them, so that neither kind keeps the other out.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._inside = 0
        self._waiting = 0
        self._owed = 0
        self._closed = False

    @contextlib.contextmanager
    def search(self) -> Iterator[None]:
        """Be inside while nothing is changed."""
        with self._condition:
            if self._closed:
                self._waiting += 1
                self._condition.wait_for(self._open)
                self._waiting -= 1
                self._owed = max(0, self._owed - 1)
                if not self._owed:
                    self._condition.notify_all()
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                if self._closed and not self._inside:
                    self._condition.notify_all()

    def _open(self) -> bool:
        return not self._closed

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Be alone inside."""
        with self._condition:
            self._condition.wait_for(lambda: not self._closed and not self._owed)
            self._closed = True
            self._condition.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._condition:
                self._closed = False
                self._owed = self._waiting
                self._condition.notify_all()
