"""Rows that are asked for often, gathered: their sketches stand side by side, however the rows lie in the index."""

from __future__ import annotations

from indexers.native import _kernel
from indexers.native.scanned import rescored
from vss.types import Hits, Vectors


class Gathered:
    """`vss.protocols.Gathered`. It reads the index that it is of, and keeps it in memory. Thread-safe."""

    def __init__(self, searcher: _kernel.Searcher, rows: _kernel.Gathered) -> None:
        self._searcher = searcher
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._rows.nbytes

    def search(self, queries: Vectors, k: int) -> Hits:
        """As `vss.protocols.Gathered.search`."""
        return Hits(*self._searcher.scan_gathered(queries, k, rescored(0, k), self._rows))
