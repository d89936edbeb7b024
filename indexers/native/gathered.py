"""Rows that are asked for often, gathered: their sketches stand side by side, cell by cell, however the rows lie."""

from __future__ import annotations

from indexers.native import _kernel
from indexers.native.scanned import as_queries, rescored
from vss.types import Hits, Vectors


class Gathered:
    """`vss.protocols.Gathered`. It reads the index that it is of, and keeps it in memory. Thread-safe."""

    def __init__(self, searcher: _kernel.Searcher, dim: int, rows: _kernel.Gathered) -> None:
        """rows: gathered by the searcher, whose vectors have `dim` components"""
        self._searcher = searcher
        self._dim = dim
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._rows.nbytes

    def search(self, queries: Vectors, k: int, budget: int | None = None) -> Hits:
        """As `vss.protocols.Gathered.search`."""
        queries = as_queries(queries, self._dim)
        if budget is not None:
            return Hits(*self._searcher.probe_gathered(queries, k, budget, rescored(0, k), self._rows))
        return Hits(*self._searcher.scan_gathered(queries, k, rescored(0, k), self._rows))
