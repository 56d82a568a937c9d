"""Which kind of index a collection gets, and when it is built anew."""

from __future__ import annotations

from dataclasses import dataclass

FLAT = "flat-float16"
HNSW_FLOAT16 = "hnsw-float16"
HNSW_SQ8 = "hnsw-sq8"
_BY_SIZE = (FLAT, HNSW_FLOAT16, HNSW_SQ8)

RECALL = 0.99
"""Of recall@10 against the exact answer; what an index is tuned to, and held to."""

EXACT_BYTES = 4 * 1024**2
"""Vectors up to so many bytes as float16 are searched exactly: the graph is hardly faster
then, and always finding all costs nothing (docs/adr/0008)."""

FLOAT16_BYTES = 512 * 1024**2
"""Vectors up to so many bytes are held as float16, above as one byte a dimension."""

_HYSTERESIS = 2
_MOST_DEAD = 0.25
_TRAINING = 50_000


@dataclass(frozen=True)
class Plan:
    """How an index is to be made.

    Attributes:
        kind: flat-float16, hnsw-float16 or hnsw-sq8.
        reason: why, for people.
    """

    kind: str
    reason: str

    @property
    def graph(self) -> bool:
        """Whether neighbours are found by a graph."""
        return self.kind != FLAT

    @property
    def training(self) -> int:
        """How many vectors it is trained on."""
        return _TRAINING if self.kind == HNSW_SQ8 else 0


def plan(count: int, dimension: int) -> Plan:
    """The plan for a number of vectors."""
    size = 2 * count * dimension
    held = f"{count:,} vectors are {size / 1024**2:,.1f} MiB as float16"
    if size <= EXACT_BYTES:
        return Plan(FLAT, f"{held}, at most {EXACT_BYTES // 1024**2}: all are compared")
    if size <= FLOAT16_BYTES:
        return Plan(HNSW_FLOAT16, f"{held}, more than {EXACT_BYTES // 1024**2}: a graph leads")
    return Plan(
        HNSW_SQ8,
        f"{held}, more than {FLOAT16_BYTES // 1024**2}: a graph over one byte a dimension, the "
        "best candidates compared again as float16",
    )


def due(kind: str, count: int, dead: int, dimension: int) -> Plan | None:
    """The plan by which an index is to be built anew; None: it is good as it is.

    Between two kinds there is a range in which either stays, so that adding and removing a few
    vectors does not rebuild again and again.

    Args:
        kind: of the index.
        count: how many vectors there are.
        dead: how many there were besides, and are still passed on the way.
        dimension: of the vectors.
    """
    wanted = plan(count, dimension)
    if _BY_SIZE.index(wanted.kind) > _BY_SIZE.index(kind):
        return wanted
    roomier = plan(count * _HYSTERESIS, dimension)
    if _BY_SIZE.index(roomier.kind) < _BY_SIZE.index(kind):
        return wanted
    if dead > _MOST_DEAD * (count + dead):
        return Plan(kind, f"{dead:,} of {count + dead:,} vectors have been removed")
    return None
