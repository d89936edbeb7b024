"""`coded`: a scan of all rows by their codes, the best scored again. No graph: made in moments, for what waits for one.

CodedBuilder   codes as files, for a sealed segment
Growing        codes in memory, of rows that come one after the other
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.codes import FILES, MAYBE, MEASURES, read_arrays, searcher_of, write_codes
from indexers.native.index import rescored
from indexers.native.quantise import choose, some
from indexers.params import corrupt
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Metric, Progress, Vectors

KIND = "coded"


class Coded:
    """`vss.protocols.Index` and `Scanner`; it has no effort. Thread-safe."""

    def __init__(self, spec: IndexSpec, searcher: _kernel.Searcher, count: int) -> None:
        self.spec = spec
        self._count = count
        self._searcher: _kernel.Searcher | None = searcher

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """As `Index.search`; the effort is only how many rows at least are scored again."""
        if allow is None:
            return self.scan(queries, k, None)
        if len(allow) != self._count:
            raise invalid(f"got a mask of {len(allow)} rows, wanted {self._count}")
        searcher, queries = self._opened(queries)
        return Hits(*searcher.scan_allowed(queries, k, rescored(effort or 0, k), np.ascontiguousarray(allow)))

    def scan(self, queries: Vectors, k: int, among: NDArray[np.int32] | Mask | None) -> Hits:
        """As `Scanner.scan`."""
        searcher, queries = self._opened(queries)
        if among is None:
            return Hits(*searcher.scan_range(queries, k, rescored(0, k), 0, self._count))
        if among.dtype == np.bool_:
            return Hits(*searcher.scan_allowed(queries, k, rescored(0, k), cast(Mask, among)))
        return Hits(*searcher.scan(queries, k, rescored(0, k), cast("NDArray[np.int32]", among)))

    def _opened(self, queries: Vectors) -> tuple[_kernel.Searcher, Vectors]:
        if self._searcher is None:
            raise VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise invalid(f"got queries of shape {queries.shape}, wanted (q, {self.spec.dim})")
        return self._searcher, np.ascontiguousarray(queries, np.float32)

    def close(self) -> None:
        """Let go of the arrays; searches under way finish."""
        self._searcher = None


class CodedBuilder:
    """Builds in one pass over the vectors."""

    kind = KIND

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`; takes no parameters."""
        if metric not in MEASURES:
            raise invalid(f"coded cannot search under {metric}", field="metric", hint="use the index kind flat")
        if params:
            name = next(iter(params))
            raise invalid(f"coded has no parameter {name!r}", field=name, hint="leave it out")
        return IndexSpec(kind=KIND, metric=metric, dim=dim)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`."""
        quantiser = choose(some(vectors), spec.metric)
        write_codes(quantiser.blocks(vectors), quantiser, spec.dim, out)
        progress(len(vectors))

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Coded:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the files are not those of such an index."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise corrupt(f"got vectors of shape {vectors.shape}, wanted (n, {spec.dim})")
        arrays = read_arrays(files, FILES, MAYBE, spec.dim)
        return Coded(spec, searcher_of(spec.metric, arrays, vectors), len(vectors))

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """None: a scan looks at every row."""
        return ()
