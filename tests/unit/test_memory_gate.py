"""The memory that decoders share."""

from __future__ import annotations

import random
import threading

import pytest
from tests.conftest import until

from futu.compute.gate import MemoryGate
from futu.errors import ImageTooLargeError


class Visitor:
    """A thread that holds room until it is told to leave."""

    def __init__(self, gate: MemoryGate, size: int, name: str, order: list[str]) -> None:
        self._gate = gate
        self._leaving = threading.Event()
        self._before = self.queued()
        self.inside = threading.Event()
        self._visit = (size, name, order)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        size, name, order = self._visit
        with self._gate.room(size, name):
            order.append(name)
            self.inside.set()
            self._leaving.wait()

    def queued(self) -> int:
        return len(self._gate._queue)

    def queues(self) -> None:
        """Wait until it stands in the queue."""
        until(lambda: self.queued() > self._before)

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join()


def test_first_come_is_first_served_although_a_later_one_would_fit() -> None:
    gate, order = MemoryGate(100), list[str]()
    first = Visitor(gate, 60, "first", order)
    assert first.inside.wait(20)
    large = Visitor(gate, 90, "large", order)
    large.queues()
    small = Visitor(gate, 10, "small", order)
    small.queues()
    assert order == ["first"]
    first.leave()
    # The release wakes the next, and as there is room, the one after it.
    assert large.inside.wait(20)
    assert small.inside.wait(20)
    assert order == ["first", "large", "small"]
    large.leave()
    small.leave()


def test_budget_is_never_exceeded_and_is_whole_in_the_end() -> None:
    gate = MemoryGate(100)
    lock, held, most = threading.Lock(), [0], [0]

    def come_and_go(seed: int) -> None:
        sizes = random.Random(seed)
        for _ in range(100):
            size = sizes.randint(1, 100)
            with gate.room(size, "x"):
                with lock:
                    held[0] += size
                    most[0] = max(most[0], held[0])
                with lock:
                    held[0] -= size

    threads = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most[0] <= 100
    with gate.room(100, "all of it"):
        pass


def test_picture_larger_than_the_budget_is_refused_with_the_limit_and_the_remedy() -> None:
    gate = MemoryGate(100)
    message = r"big\.png .*101 .*100\..*FUTU_DECODE_BYTES"
    with pytest.raises(ImageTooLargeError, match=message), gate.room(101, "big.png"):
        pass
    with gate.room(100, "just fits"):
        pass


def test_exception_inside_gives_the_room_back() -> None:
    gate = MemoryGate(100)
    with pytest.raises(ZeroDivisionError), gate.room(100, "x"):
        raise ZeroDivisionError
    with gate.room(100, "x"):
        pass
