"""Where walks start, so that they come to every row.

Where rows are taken out of a graph, one that only they led to is left without a link to it (pgvector #988 is such a
loss): 17 of 1,499 rows after a tenth was replaced. Each such part of the graph gets an entry of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vss.types import Mask


def entries_of(graph: NDArray[np.int32], entry: int) -> NDArray[np.int32]:
    """`(e,)` int32 rows of a `(n, degree)` graph from which all are reached; `entry` is the first."""
    reached = np.zeros(len(graph), np.bool_)
    _walk(graph, entry, reached)
    entries = [entry]
    for row in np.flatnonzero(~reached).tolist():
        if not reached[row]:
            entries.append(row)
            _walk(graph, row, reached)
    return np.array(entries, np.int32)


def _walk(graph: NDArray[np.int32], start: int, reached: Mask) -> None:
    """Mark what a walk from `start` comes to."""
    front = np.array([start])
    while len(front):
        reached[front] = True
        found = graph[front].ravel()
        found = found[found >= 0]
        front = np.unique(found[~reached[found]])
