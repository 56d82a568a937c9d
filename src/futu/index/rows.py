"""Which vector is in which row of an index, and which rows count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from futu.index.base import Ids

Mask = npt.NDArray[np.bool_]
_SPARE = 1024


class Rows:
    """Ids by row and rows by id. Rows are only ever appended; a removed vector's row is dead.

    Ids are those that the catalogue counts up, so a table of 4 bytes for each id ever given is
    small beside the vectors.

    Attributes:
        count: of rows that are alive.
        used: number of rows.
        changes: counts the changes.
    """

    def __init__(self, ids: Ids | None = None, alive: Mask | None = None) -> None:
        start = np.empty(0, np.int64) if ids is None else ids
        self.used = len(start)
        self.changes = 0
        self._ids = np.empty(self.used + _SPARE, np.int64)
        self._ids[: self.used] = start
        self._alive = np.zeros(len(self._ids), np.bool_)
        self._alive[: self.used] = True if alive is None else alive
        self.count = int(np.count_nonzero(self._alive))
        top = int(start.max()) if self.used else 0
        self._row = np.full(top + _SPARE, -1, np.int32)
        self._row[start] = np.arange(self.used, dtype=np.int32)

    @property
    def dead(self) -> int:
        """Number of rows that do not count."""
        return self.used - self.count

    def row_of(self, ids: Ids) -> npt.NDArray[np.int32]:
        """The row of each id, dead or alive; -1: none."""
        inside = (ids >= 0) & (ids < len(self._row))
        return np.where(inside, self._row[np.where(inside, ids, 0)], np.int32(-1))

    def has(self, ids: Ids) -> Mask:
        """Which ids are there."""
        rows = self.row_of(ids)
        return (rows >= 0) & self._alive[rows]

    def append(self, ids: Ids) -> None:
        """Give new ids the next rows."""
        end = self.used + len(ids)
        if end > len(self._ids):
            room = max(end, len(self._ids) * 3 // 2)
            self._ids = np.resize(self._ids, room)
            self._alive = np.concatenate([self._alive, np.zeros(room - len(self._alive), np.bool_)])
        top = int(ids.max()) + 1
        if top > len(self._row):
            more = max(top, len(self._row) * 3 // 2) - len(self._row)
            self._row = np.concatenate([self._row, np.full(more, -1, np.int32)])
        self._ids[self.used : end] = ids
        self._row[ids] = np.arange(self.used, end, dtype=np.int32)
        self._alive[self.used : end] = True
        self.used, self.count, self.changes = end, self.count + len(ids), self.changes + 1

    def set_alive(self, rows: npt.NDArray[np.int32], *, alive: bool) -> None:
        """Let rows count, or not; all of them did not before, or did."""
        self._alive[rows] = alive
        self.count += len(rows) if alive else -len(rows)
        self.changes += 1

    def ids_of(self, rows: Ids) -> Ids:
        """The ids in these rows."""
        return self._ids[rows]

    def ids(self) -> Ids:
        """Those that are alive, ascending."""
        return np.sort(self._ids[: self.used][self._alive[: self.used]])

    def mask(self, allowed: Ids | None = None) -> Mask:
        """By row: whether it is alive and, if given, its id allowed."""
        alive = self._alive[: self.used]
        if allowed is None:
            return alive.copy()
        rows = self.row_of(allowed)
        mask = np.zeros(self.used, np.bool_)
        mask[rows[rows >= 0]] = True
        return mask & alive

    def saved(self) -> tuple[Ids, Mask]:
        """Copies of ids and liveness by row."""
        return self._ids[: self.used].copy(), self._alive[: self.used].copy()

    def memory_bytes(self) -> int:
        """Memory of the tables."""
        return self._ids.nbytes + self._alive.nbytes + self._row.nbytes
