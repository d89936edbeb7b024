"""What every index of the engine can do, with a graph or without: scan rows by their codes, the best scored again."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Vectors

RESCORED_OF_SCAN = 20
"""Least number of rows that a scan by codes scores again exactly. (Of 10 wanted. Fewer, and the codes often cannot tell
from the last of them what comes after it, so that the scan goes on: 20,000 x 384 text took 258 us with 20, 337 with 40,
483 with 10; 20,000 x 128 clustered 96, 128, 149.)"""


class Scanned:
    """`vss.protocols.Scanner` over one compiled engine, which is let go of by `close`."""

    def __init__(self, spec: IndexSpec, searcher: _kernel.Searcher, count: int) -> None:
        self.spec = spec
        self._count = count
        self._searcher: _kernel.Searcher | None = searcher

    def __len__(self) -> int:
        return self._count

    def scan(self, queries: Vectors, k: int, among: NDArray[np.int32] | Mask | None) -> Hits:
        """As `Scanner.scan`."""
        searcher, queries = self._opened(queries)
        if among is None:
            return Hits(*searcher.scan_range(queries, k, rescored(0, k), 0, self._count))
        if among.dtype == np.bool_:
            return Hits(*searcher.scan_allowed(queries, k, rescored(0, k), cast(Mask, among)))
        return Hits(*searcher.scan(queries, k, rescored(0, k), cast("NDArray[np.int32]", among)))

    def close(self) -> None:
        """Let go of the arrays; searches under way finish."""
        self._searcher = None

    def _opened(self, queries: Vectors) -> tuple[_kernel.Searcher, Vectors]:
        """The engine, and the queries as it takes them."""
        if self._searcher is None:
            raise closed()
        return self._searcher, as_queries(queries, self.spec.dim)

    def _checked(self, allow: Mask) -> Mask:
        if len(allow) != self._count:
            raise invalid(f"got a mask of {len(allow)} rows, wanted {self._count}")
        return np.ascontiguousarray(allow)


def rescored(width: int, k: int) -> int:
    """How many rows a scan by codes scores again, at least."""
    return max(width, RESCORED_OF_SCAN, 2 * k)


def as_queries(queries: Vectors, dim: int) -> Vectors:
    """Queries as the engine takes them. VssError (INVALID) for another shape than `(q, dim)`."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise invalid(f"got queries of shape {queries.shape}, wanted (q, {dim})")
    return np.ascontiguousarray(queries, np.float32)


def closed() -> VssError:
    """What a closed index answers."""
    return VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
