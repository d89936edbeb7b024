"""Where each row stands in the order of a column: whether a few rows have values of a range is seen of each alone.

Four bytes a row, which a mask of all rows for each filter would be many times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.types import Mask, Rows

ROW_BYTES = 4
"""What each row takes."""

FEW_SPANS = 4
"""Ranges that are compared one by one; more are looked up in their order."""


class Ranks:
    """The order of one column, `rows` being those of its sorted values or of its postings. Immutable.

    Raises ValueError where a row stands twice.
    """

    def __init__(self, rows: NDArray[Any], count: int) -> None:
        """count: rows of the segment"""
        self._of = np.full(count, -1, np.int32)
        self._of[rows] = np.arange(len(rows), dtype=np.int32)
        if np.count_nonzero(self._of >= 0) != len(rows):
            raise ValueError("got a row that stands twice")

    @property
    def nbytes(self) -> int:
        """Four bytes for each row."""
        return self._of.nbytes

    def within(self, rows: Rows, spans: Sequence[tuple[int, int]]) -> Mask:
        """`(r,)` which of `(r,)` rows stand in one of these parts (start, stop) of the order, none of which overlap."""
        ranks = self._of.take(rows)
        if len(spans) > FEW_SPANS:
            starts, stops = np.array(sorted(spans), np.int32).T
            at = starts.searchsorted(ranks, "right") - 1
            among: Mask = (at >= 0) & (ranks < stops[at])
            return among
        found = np.zeros(len(rows), np.bool_)
        for start, stop in spans:
            found |= (ranks >= start) & (ranks < stop)
        return found
