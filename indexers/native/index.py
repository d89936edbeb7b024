"""The read half: one compiled engine over mapped arrays."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.cells import Nearness
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Vectors

DEFAULT_EFFORT = 48

SCAN_ROWS_PER_EFFORT = 50
"""A walk takes about the time of scanning this many rows in a row, per unit of effort; an index of fewer is scanned,
for recall 1.0. (hubs-256, 100,000 rows: the scan takes as long as a walk of width 1,900.)"""

RESCORED_OF_SCAN = 20
"""Least number of rows that a scan by codes scores again exactly. (Of 10 wanted. Fewer, and the codes often cannot tell
from the last of them what comes after it, so that the scan goes on: 20,000 x 384 text took 258 us with 20, 337 with 40,
483 with 10; 20,000 x 128 clustered 96, 128, 149.)"""


class Native:
    """`vss.protocols.Index`; effort is the width of the walk's beam, which is scored again exactly.

    Thread-safe: the engine lets go of the interpreter lock, and each thread has memory of its own (a byte a row).
    """

    default_effort = DEFAULT_EFFORT

    def __init__(
        self, spec: IndexSpec, searcher: _kernel.Searcher, count: int, nearness: Nearness | None = None
    ) -> None:
        """nearness: of the cells that the searcher has"""
        self.spec = spec
        self._count = count
        self._nearness = nearness
        self._searcher: _kernel.Searcher | None = searcher

    def __len__(self) -> int:
        return self._count

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        allow: Mask | None = None,
        effort: int | None = None,
        looked: int | None = None,
    ) -> Hits:
        """As `Prober.search`; the effort counts as if nothing were filtered."""
        searcher = self._opened(queries)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        width = max(DEFAULT_EFFORT if effort is None else effort, k, 1)
        if allow is not None:
            if len(allow) != self._count:
                raise invalid(f"got a mask of {len(allow)} rows, wanted {self._count}")
            mask = np.ascontiguousarray(allow)
            budget = looked or 0 if self._nearness is not None else 0
            return Hits(*searcher.search_allowed(queries, k, width, rescored(width, k), mask, budget))
        if self._count <= SCAN_ROWS_PER_EFFORT * width:
            return Hits(*searcher.scan_range(queries, k, rescored(width, k), 0, self._count))
        return Hits(*searcher.search(queries, k, width))

    def scan(self, queries: Vectors, k: int, among: NDArray[np.int32] | Mask | None) -> Hits:
        """As `Scanner.scan`."""
        searcher = self._opened(queries)
        queries = np.ascontiguousarray(queries, np.float32)
        if among is None:
            return Hits(*searcher.scan_range(queries, k, rescored(0, k), 0, self._count))
        if among.dtype == np.bool_:
            return Hits(*searcher.scan_allowed(queries, k, rescored(0, k), cast(Mask, among)))
        return Hits(*searcher.scan(queries, k, rescored(0, k), cast("NDArray[np.int32]", among)))

    @property
    def cells(self) -> int:
        """As `Prober.cells`."""
        return 0 if self._nearness is None else self._nearness.cells

    def widened(self, effort: int, k: int, share: float) -> float:
        """As `Prober.widened`."""
        return _kernel.widened(effort, k, share)

    def listed(self, allow: Mask) -> NDArray[np.int32]:
        """As `Prober.listed`."""
        return _kernel.listed(np.ascontiguousarray(allow))

    def looked_at(self, recall: float, matching: int, k: int) -> int | None:
        """As `Prober.looked_at`."""
        return None if self._nearness is None else self._nearness.rows(recall, matching, k)

    def probe(self, queries: Vectors, k: int, budget: int, among: NDArray[np.int32] | Mask) -> Hits:
        """As `Prober.probe`."""
        searcher = self._opened(queries)
        queries = np.ascontiguousarray(queries, np.float32)
        if among.dtype == np.bool_:
            return Hits(*searcher.probe(queries, k, budget, rescored(0, k), np.ascontiguousarray(among, np.bool_)))
        return Hits(*searcher.probe_listed(queries, k, budget, rescored(0, k), among.astype(np.int32, copy=False)))

    def _opened(self, queries: Vectors) -> _kernel.Searcher:
        if self._searcher is None:
            raise VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise invalid(f"got queries of shape {queries.shape}, wanted (q, {self.spec.dim})")
        return self._searcher

    def close(self) -> None:
        """Let go of the arrays; searches under way finish."""
        self._searcher = None


def rescored(width: int, k: int) -> int:
    """How many rows a scan by codes scores again, at least."""
    return max(width, RESCORED_OF_SCAN, 2 * k)
