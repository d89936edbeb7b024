"""Which vectors of one name in one part a query may return, and the cache that keeps such answers for filters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vss.types import Mask

Kept = TypeVar("Kept")


class Selection:
    """What a filter, tombstones and missing vectors leave of `(m, dim)` vectors. Immutable, thread-safe.

    mask:  `(m,)`; None when all of them are left
    count: how many are left
    read:  payloads that were read to find them
    """

    def __init__(self, mask: Mask | None, count: int, read: int = 0) -> None:
        self.mask = mask
        self.count = count
        self.read = read

    @cached_property
    def rows(self) -> NDArray[np.int32]:
        """`(count,)` int32, rising: the positions of those that are left."""
        rows = np.arange(self.count) if self.mask is None else np.flatnonzero(self.mask)
        return rows.astype(np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of the mask, and of the rows, whether they were asked for or not."""
        return 4 * self.count + (0 if self.mask is None else self.mask.nbytes)


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

    def put(self, name: str, value: Kept, nbytes: int) -> None:
        """Keep it instead of what was kept by that name."""
        with self._lock:
            if (known := self._kept.pop(name, None)) is not None:
                self._bytes -= known[1]
            self._kept[name] = value, nbytes
            self._bytes += nbytes
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][1]
