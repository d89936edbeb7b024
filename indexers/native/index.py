"""The read half: one compiled engine over mapped arrays."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.cells import Nearness
from indexers.native.gathered import Gathered
from indexers.native.scanned import Scanned, closed, rescored
from indexers.native.sketches import LEAST_ROWS, moments_of
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Vectors

DEFAULT_EFFORT = 48

SCAN_ROWS_PER_EFFORT = 50
"""A walk takes about the time of scanning this many rows in a row, per unit of effort; an index of fewer is scanned,
for recall 1.0. (hubs-256, 100,000 rows: the scan takes as long as a walk of width 1,900.)"""


class Native(Scanned):
    """`vss.protocols.Index`; effort is the width of the walk's beam, which is scored again exactly.

    Thread-safe: long searches let go of the interpreter lock, and each thread has memory of its own (a byte a row).
    """

    default_effort = DEFAULT_EFFORT

    def __init__(
        self,
        spec: IndexSpec,
        searcher: _kernel.Searcher,
        codes: NDArray[Any],
        nearness: Nearness | None = None,
    ) -> None:
        """codes: those of the searcher; nearness: of the cells that it has"""
        super().__init__(spec, searcher, len(codes))
        self._codes = codes
        self._nearness = nearness

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        allow: Mask | None = None,
        effort: int | None = None,
        looked: int | None = None,
        counted: int | None = None,
    ) -> Hits:
        """As `Prober.search`; the effort counts as if nothing were filtered."""
        searcher, queries = self._opened(queries)
        width = max(DEFAULT_EFFORT if effort is None else effort, k, 1)
        if allow is not None:
            mask = self._checked(allow)
            budget = looked or 0 if self._nearness is not None else 0
            return Hits(*searcher.search_allowed(queries, k, width, rescored(width, k), mask, budget, counted))
        if self._count <= SCAN_ROWS_PER_EFFORT * width:
            return Hits(*searcher.scan_range(queries, k, rescored(width, k), 0, self._count))
        return Hits(*searcher.search(queries, k, width))

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
        searcher, queries = self._opened(queries)
        if among.dtype == np.bool_:
            return Hits(*searcher.probe(queries, k, budget, rescored(0, k), np.ascontiguousarray(among, np.bool_)))
        return Hits(*searcher.probe_listed(queries, k, budget, rescored(0, k), among.astype(np.int32, copy=False)))

    def gathers(self, count: int) -> bool:
        """As `Prober.gathers`: not where they are few, or codes are half floats."""
        return count >= LEAST_ROWS and self._codes.dtype == np.uint8

    def gather(self, rows: NDArray[np.int32]) -> Gathered:
        """As `Prober.gather`."""
        if self._searcher is None:
            raise closed()
        return Gathered(self._searcher, self.spec.dim, self._searcher.gather(rows, self._moments))

    def close(self) -> None:
        """As `Index.close`; what was gathered stays."""
        super().close()
        self._codes = np.empty((0, 0), self._codes.dtype)

    @cached_property
    def _moments(self) -> NDArray[np.float32]:
        return moments_of(self._codes, self.spec.dim)
