"""How much memory may be under way in decoders at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

from futu.errors import ImageTooLargeError


class MemoryGate:
    """Lets decoders in while the bytes they will need together stay within a budget.

    First come, first served, so that a large picture is not passed over for ever.

    Args:
        budget: bytes.

    Attributes:
        moved_at: when somebody last came in or went out, monotonic seconds.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._left = budget
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self.moved_at = time.monotonic()

    @contextlib.contextmanager
    def room(self, size: int, name: str) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them until the block ends.

        Raises:
            ImageTooLargeError: they are more than the whole budget.
        """
        if size > self._budget:
            raise ImageTooLargeError(
                f"{name} needs about {size:,} bytes of memory to be decoded; the limit is "
                f"{self._budget:,}. Make it smaller or raise FUTU_DECODE_BYTES.",
                file=name,
                bytes=size,
                limit=self._budget,
            )
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and size <= self._left)
            self._queue.popleft()
            self._move(-size)
        try:
            yield
        finally:
            with self._changed:
                self._move(size)

    def _move(self, size: int) -> None:
        """So many bytes more are free; called with the lock held."""
        self._left += size
        self.moved_at = time.monotonic()
        self._changed.notify_all()
