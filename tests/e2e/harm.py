"""What is done to a cluster in a fault run: all kinds of harm, in an order that a seed decides.

Harm is done at points of progress, not of time, so that all of it falls into the build however
fast the machine is. The last two faults are the same for every seed: Redis forgets everything,
then the holder of a job dies, and no restart of the controller comes to help. So every run ends
only if what Redis forgot is sent again and what a dead worker held is taken over.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tests.e2e.faults import LEASE_S, Cluster

_FIRST, _LAST = 0.03, 0.65
_TAIL = (0.70, 0.80)
_MARK_S = 60.0


class Harm:
    """Does harm while a dataset is indexed.

    Args:
        cluster: to whom.
        seed: decides what, when and in which order.
        images: how many vectors there will be.

    Attributes:
        done: what was done when, for the reader of a failure.
    """

    def __init__(self, cluster: Cluster, seed: int, images: int) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)
        self._images = images
        self._waking: list[threading.Timer] = []
        self._started = time.monotonic()
        self.done: list[str] = []
        self.kinds: list[Callable[[], str]] = [
            self.kill_compute,
            self.suspend_compute,
            self.restart_redis,
            self.restart_controller,
            self.cut_link,
            self.reset_link,
            self.refuse_link,
            self.slow_link,
        ]

    def run(self) -> None:
        """Every kind once, some twice, alone or in quick succession; then the tail."""
        order = self.kinds + self._random.sample(self.kinds, 4)
        self._random.shuffle(order)
        marks = sorted(self._random.uniform(_FIRST, _LAST) for _ in order)
        for mark, kind in zip(marks, order, strict=True):
            if self._random.random() < 0.5:
                self._await(mark)
            self._do(kind)
        for timer in self._waking:
            timer.join()
        for mark, kind in zip(_TAIL, (self.restart_redis, self.kill_holder), strict=True):
            self._await(mark)
            self._do(kind)

    def _do(self, kind: Callable[[], str]) -> None:
        self._hold(0.0, 0.3)
        at_s = time.monotonic() - self._started
        self.done.append(f"{at_s:.1f} s, {self._cluster.vector_count()} vectors: {kind()}")

    def _await(self, mark: float) -> None:
        wanted = int(mark * self._images)
        self._cluster.until(lambda: self._cluster.vector_count() >= wanted, _MARK_S)

    def _hold(self, low: float, high: float) -> None:
        threading.Event().wait(self._random.uniform(low, high))

    def kill_compute(self) -> str:
        name = self._random.choice(self._cluster.compute)
        self._cluster.restart(name)
        return f"killed {name}"

    def kill_holder(self) -> str:
        """Kill a compute server that has a job in hand, and start it again."""
        name = ""

        def holds() -> bool:
            nonlocal name
            name = self._random.choice(self._cluster.compute)
            self._cluster.suspend(name)
            if self._cluster.holds_a_job(name):
                return True
            self._cluster.wake(name)
            return False

        self._cluster.until(holds, _MARK_S)
        self._cluster.restart(name)
        return f"killed {name}, which held a job"

    def suspend_compute(self) -> str:
        """Longer than the lease; other harm may be done meanwhile."""
        name = self._random.choice(self._cluster.compute)
        self._cluster.suspend(name)
        asleep_s = self._random.uniform(1.5 * LEASE_S, 2.5 * LEASE_S)
        timer = threading.Timer(asleep_s, self._cluster.wake, [name])
        timer.start()
        self._waking.append(timer)
        return f"suspended {name} for {asleep_s:.1f} s"

    def restart_redis(self) -> str:
        self._cluster.restart("redis")
        return "restarted redis"

    def restart_controller(self) -> str:
        self._cluster.restart("controller")
        return "restarted controller"

    def cut_link(self) -> str:
        self._cluster.proxy.cut()
        self._hold(0.2, 2.0)
        self._cluster.proxy.mend()
        return "cut the link"

    def reset_link(self) -> str:
        for _ in range(self._random.randint(1, 5)):
            self._cluster.proxy.reset()
            self._hold(0.0, 0.3)
        return "reset the link"

    def refuse_link(self) -> str:
        self._cluster.proxy.refuse()
        self._hold(0.2, 2.0)
        self._cluster.proxy.mend()
        return "refused connections"

    def slow_link(self) -> str:
        self._cluster.proxy.delay(0.1)
        self._hold(0.5, 2.0)
        self._cluster.proxy.mend()
        return "slowed the link"
