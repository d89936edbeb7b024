"""Which vectors of one name in one part a query may return, and the cache that keeps such answers for filters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vss.protocols import Gathered
from vss.types import Mask

Kept = TypeVar("Kept")

LISTED_SHARE = 0.4
"""Part of all rows up to which those that are left are listed: beyond it all are gone through, in their order."""


PLANS_BYTES = 4096
"""About what plans and what else stands beside a selection take."""


class Selection:
    """What a filter, tombstones and missing vectors leave of `(m, dim)` vectors. Thread-safe; they stay what they are.

    count: how many are left
    whole: whether all of them are
    read:  payloads that were read to find them

    Beside them stands what searches among them learn (`vss.search.hot`):
    gathered: these rows, gathered by their index because they are asked for often
    wasted:   microseconds that searches would have taken less had they been so; None once they are, or will not be
    took:     microseconds that searches among them took of late, by how they were done (`vss.search.plan.Plan.way`)
    plans:    how they are searched, by what was asked for (`vss.search.retrieve`)
    """

    def __init__(self, mask: Mask | None, count: int, read: int = 0) -> None:
        """mask: `(m,)`; None when all of them are left"""
        self.count = count
        self.whole = mask is None
        self.read = read
        self.gathered: Gathered | None = None
        self.wasted: float | None = 0.0
        self.took: dict[str, float] = {}
        self.plans: dict[Any, Any] = {}
        self._mask = mask
        self._rows: NDArray[np.int32] | None = None
        self._of = count if mask is None else len(mask)

    @classmethod
    def listed(cls, rows: NDArray[np.int32], of: int, read: int = 0) -> Selection:
        """Rows that are left, rising, of so many."""
        made = cls(None, len(rows), read)
        if len(rows) < of:
            made.whole, made._rows, made._of = False, rows, of
        return made

    @classmethod
    def expected(cls, count: int, of: int) -> Selection:
        """About so many of so many, nobody knows which: to see what a search among them would cost."""
        made = cls(None, count)
        made.whole, made._of = False, of
        return made

    @property
    def lists(self) -> bool:
        """Whether `rows` costs nothing."""
        return self._rows is not None

    @property
    def mask(self) -> Mask | None:
        """`(m,)`; None when all of them are left."""
        mask = self._mask
        if mask is None and not self.whole:
            mask = np.zeros(self._of, np.bool_)
            mask[self._rows] = True
            self._mask = mask
        return mask

    @property
    def rows(self) -> NDArray[np.int32]:
        """`(count,)` int32, rising: the positions of those that are left."""
        mask, rows = self._mask, self._rows  # in this order: the mask is let go of once there are rows
        if rows is None:
            rows = (np.arange(self.count) if mask is None else np.flatnonzero(mask)).astype(np.int32)
            self._rows = rows
        return rows

    def listed_by(self, lister: Callable[[Mask], NDArray[np.int32]]) -> NDArray[np.int32]:
        """`rows`, made by what does so faster than NumPy. The mask, which is seldom asked for then, is let go of."""
        mask = self._mask
        if self._rows is None and mask is not None:
            self._rows = lister(mask)
            self._mask = None
        return self.rows

    @property
    def among(self) -> NDArray[np.int32] | Mask | None:
        """For who looks at each that is left: the rows; the mask where most are; None where all are."""
        if self.whole:
            return None
        return self.rows if self.lists or self.count < LISTED_SHARE * self._of else self.mask

    @property
    def nbytes(self) -> int:
        """Bytes of the mask, of the rows, whether they were asked for or not, of what was gathered, and about those of
        the plans."""
        gathered = 0 if self.gathered is None else self.gathered.nbytes
        return 4 * self.count + (0 if self.whole else self._of) + gathered + PLANS_BYTES


def selected(mask: Mask, read: int = 0) -> Selection:
    """What a mask leaves for which so many payloads were read. It must not be written to any more."""
    count = int(np.count_nonzero(mask))
    return Selection(None if count == len(mask) else mask, count, read)


class Cache(Generic[Kept]):
    """Answers by name, the least recently used going first once they take more than `limit` bytes. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> Kept | None:
        """What is kept by that name, or None."""
        with self._lock:
            known = self._kept.get(name)
            if known is None:
                return None
            self._kept.move_to_end(name)
            return known[0]

    def has_room(self, name: str, nbytes: int) -> bool:
        """Whether something is kept by that name, or so many bytes more would drive nothing out."""
        with self._lock:
            return name in self._kept or self._bytes + nbytes <= self._limit

    def kept(self) -> list[Kept]:
        """All that is kept now."""
        with self._lock:
            return [value for value, _ in self._kept.values()]

    def put(self, name: str, value: Kept, nbytes: int) -> None:
        """Keep it instead of what was kept by that name."""
        with self._lock:
            if (known := self._kept.pop(name, None)) is not None:
                self._bytes -= known[1]
            self._kept[name] = value, nbytes
            self._bytes += nbytes
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][1]
