"""`coded`: all rows are scanned by their codes. No graph: it is made in moments, for what waits for one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from indexers.native.codes import FILES, MAYBE, MEASURES, read_arrays, searcher_of, write_codes
from indexers.native.quantise import choose, some
from indexers.native.scanned import Scanned, rescored
from indexers.native.sketches import write_sketches
from indexers.params import corrupt
from vss.errors import invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Metric, Progress, Vectors

KIND = "coded"


class Coded(Scanned):
    """`vss.protocols.Index` and `Scanner`; it has no effort. Thread-safe."""

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """As `Index.search`; the effort is only how many rows at least are scored again."""
        if allow is None:
            return self.scan(queries, k, None)
        searcher, queries = self._opened(queries)
        return Hits(*searcher.scan_allowed(queries, k, rescored(effort or 0, k), self._checked(allow)))


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
        codes = write_codes(quantiser.blocks(vectors), quantiser, spec.dim, out)
        write_sketches(codes, spec.dim, out)
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
