"""Which kind of index a collection gets, and when it is built anew."""

from __future__ import annotations

import math
from dataclasses import dataclass

FLAT = "flat-float16"
IVF_FLOAT16 = "ivf-float16"
IVF_SQ8 = "ivf-sq8"

RECALL = 0.99
"""Of recall@10 against the exact answer; what an index is tuned to, and held to."""

EXACT_BYTES = 16 * 1024**2
"""Vectors up to so many bytes as float16 are searched exactly: below, the scan takes less time
than looking for the right lists does (benchmarks/index.py)."""

FLOAT16_BYTES = 512 * 1024**2
"""Vectors up to so many bytes are held as float16, above as one byte a dimension."""

_HYSTERESIS = 2.0
_GROWTH = 2.0
_SHRINKAGE = 4.0
_POINTS_PER_LIST = 40
_LEAST_TRAINING = 5000


@dataclass(frozen=True)
class Plan:
    """How an index is to be made.

    Attributes:
        kind: flat-float16, ivf-float16 or ivf-sq8.
        lists: into which the vectors are parted; 1 when all are scanned.
        reason: why, for people.
    """

    kind: str
    lists: int
    reason: str

    @property
    def training(self) -> int:
        """How many vectors it is trained on."""
        return max(_LEAST_TRAINING, self.lists * _POINTS_PER_LIST)


def plan(count: int, dimension: int) -> Plan:
    """The plan for a number of vectors."""
    size = 2 * count * dimension
    held = f"{count:,} vectors are {size / 1024**2:,.0f} MiB as float16"
    if size <= EXACT_BYTES:
        return Plan(FLAT, 1, f"{held}, at most {EXACT_BYTES // 1024**2}: searched exactly")
    # Lists of some sqrt(n) / 4 vectors balance finding the lists and scanning them.
    lists = max(16, 4 * math.isqrt(count))
    if size <= FLOAT16_BYTES:
        reason = f"{held}, more than {EXACT_BYTES // 1024**2}: parted into lists"
        return Plan(IVF_FLOAT16, lists, reason)
    reason = (
        f"{held}, more than {FLOAT16_BYTES // 1024**2}: one byte a dimension, the best candidates "
        "compared again as float16"
    )
    return Plan(IVF_SQ8, lists, reason)


def first_plan(count: int, dimension: int) -> Plan:
    """The plan for vectors that come all at once, to be searched before lists are made."""
    wanted = plan(count, dimension)
    if wanted.kind == IVF_SQ8:
        return Plan(IVF_SQ8, 1, "until the vectors are parted into lists")
    return Plan(FLAT, 1, "until there are enough vectors to part them into lists")


def due(kind: str, trained_on: int, count: int, dimension: int) -> Plan | None:
    """The plan by which an index is to be built anew; None: it is good as it is.

    Between two kinds there is a range in which either stays, so that adding and removing a few
    vectors does not rebuild again and again.

    Args:
        kind: of the index.
        trained_on: how many vectors there were when it was built.
        count: how many there are.
        dimension: of the vectors.
    """
    wanted = plan(count, dimension)
    order = (FLAT, IVF_FLOAT16, IVF_SQ8)
    if order.index(wanted.kind) > order.index(kind):
        return wanted
    if order.index(wanted.kind) < order.index(kind):
        roomier = plan(int(count * _HYSTERESIS), dimension)
        return wanted if order.index(roomier.kind) < order.index(kind) else None
    if kind == FLAT:
        return None
    if count >= trained_on * _GROWTH:
        return Plan(wanted.kind, wanted.lists, f"{trained_on:,} vectors have become {count:,}")
    if count * _SHRINKAGE <= trained_on:
        return Plan(wanted.kind, wanted.lists, f"of {trained_on:,} vectors {count:,} are left")
    return None
