"""Which of some rows are among others, by a byte for each row that is used again and again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.types import Mask


class Marks(threading.local):
    """All False between two uses; each thread has its own, a byte for each row, as long as it lives. (A new mask of a
    segment for each filter costs more than what is done with it: its memory has to be had first.)"""

    def __init__(self, rows: int) -> None:
        self._marks = np.zeros(rows, np.bool_)

    def among(self, rows: NDArray[Any], asked: NDArray[np.int32]) -> Mask:
        """`(r,)` which of the `(r,)` rows asked for are among these."""
        self._marks[rows] = True
        found: Mask = self._marks.take(asked)
        self._marks[rows] = False
        return found
