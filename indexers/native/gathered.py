"""Rows that are asked for often, gathered: their sketches stand side by side, however the rows lie in the index."""

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

    def search(self, queries: Vectors, k: int) -> Hits:
        """As `vss.protocols.Gathered.search`."""
        queries = as_queries(queries, self._dim)
        return Hits(*self._searcher.scan_gathered(queries, k, rescored(0, k), self._rows))
