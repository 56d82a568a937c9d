"""A lock that many searches hold together and a change holds alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gate:
    """Searches pass together; a change waits for those inside, and those that come wait for it.

    The holder of a change must be the only one that makes changes (see ``FaissIndex``).
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._inside = 0
        self._closed = False

    @contextlib.contextmanager
    def search(self) -> Iterator[None]:
        """Be inside while nothing is changed."""
        with self._condition:
            while self._closed:
                self._condition.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                if self._closed and not self._inside:
                    self._condition.notify_all()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Be alone inside."""
        with self._condition:
            self._closed = True
            while self._inside:
                self._condition.wait()
        try:
            yield
        finally:
            with self._condition:
                self._closed = False
                self._condition.notify_all()
