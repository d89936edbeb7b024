"""The read half: one compiled engine over mapped arrays, and which of its ways answers a filtered search."""

from __future__ import annotations

import numpy as np

from indexers.native import _kernel
from vss.distance import exact_search
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Vectors

DEFAULT_EFFORT = 48

SCAN_ROWS_PER_EFFORT = 25
"""A walk takes about the time of scanning this many rows in a row, per unit of effort; an index of fewer is scanned."""

SCAN_BELOW = 20_000
"""Allowed rows up to which they are scanned, whatever part of the index they are."""

RESCORED_OF_SCAN = 40
"""Least number of rows that a scan by codes scores again exactly. (Of 10, 20 were enough for recall 1.0 on each of
the three shapes, 12 for .997 or more; 128 cost a quarter of the scan's time.)"""


class Native:
    """`vss.protocols.Index`; effort is the width of the walk's beam, which is scored again exactly.

    Thread-safe: the engine lets go of the interpreter lock, and each thread has memory of its own (a byte a row).
    """

    default_effort = DEFAULT_EFFORT

    def __init__(self, spec: IndexSpec, searcher: _kernel.Searcher, vectors: Vectors) -> None:
        self.spec = spec
        self._count = len(vectors)
        self._open: tuple[_kernel.Searcher, Vectors] | None = (searcher, vectors)

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """As `Index.search`; the effort counts as if nothing were filtered."""
        if self._open is None:
            raise VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
        searcher, vectors = self._open
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise invalid(f"got queries of shape {queries.shape}, wanted (q, {self.spec.dim})")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        width = max(DEFAULT_EFFORT if effort is None else effort, k, 1)
        if allow is not None:
            if len(allow) != self._count:
                raise invalid(f"got a mask of {len(allow)} rows, wanted {self._count}")
            return self._allowed(searcher, vectors, queries, k, np.ascontiguousarray(allow), width)
        if self._count <= SCAN_ROWS_PER_EFFORT * width:
            return Hits(*searcher.scan_range(queries, k, max(width, RESCORED_OF_SCAN, 4 * k), 0, self._count))
        return Hits(*searcher.search(queries, k, width))

    def _allowed(
        self, searcher: _kernel.Searcher, vectors: Vectors, queries: Vectors, k: int, allow: Mask, width: int
    ) -> Hits:
        allowed = int(np.count_nonzero(allow))
        if allowed <= max(SCAN_BELOW, SCAN_ROWS_PER_EFFORT * width):
            return Hits(*searcher.scan_allowed(queries, k, max(width, RESCORED_OF_SCAN, 4 * k), allow))
        rows, scores, sure = searcher.search_allowed(queries, k, width, allow)
        unsure = np.flatnonzero(~sure | (rows[:, min(k, allowed) - 1] < 0)) if k else np.empty(0, np.int64)
        if len(unsure):
            # Where what lies around the query is not allowed, no walk can be trusted.
            found = exact_search(queries[unsure], vectors, k, self.spec.metric, allow)
            rows[unsure], scores[unsure] = found.rows, found.scores
        return Hits(rows, scores)

    def close(self) -> None:
        """Let go of the arrays; searches under way finish."""
        self._open = None
