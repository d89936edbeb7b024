"""`flat`: exact search over the vectors themselves. The oracle; it has no files and no parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vss.distance import exact_search
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Metric, Progress, Vectors


class Flat:
    """Every allowed vector is scored; the answer is the true one, the lower row first among equals."""

    def __init__(self, spec: IndexSpec, vectors: Vectors) -> None:
        self.spec = spec
        self._vectors: Vectors | None = vectors
        self._count = len(vectors)

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """As `Index.search`; effort has no meaning here."""
        vectors = self._vectors
        if vectors is None:
            raise VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
        return exact_search(queries, vectors, k, self.spec.metric, allow)

    def close(self) -> None:
        """Let go of the vectors."""
        self._vectors = None


class FlatBuilder:
    """Builds nothing and opens at once; all four metrics."""

    kind = "flat"

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`; takes no parameters."""
        if params:
            name = next(iter(params))
            raise invalid(f"flat has no parameter {name!r}", field=name, hint="leave it out")
        return IndexSpec(kind=self.kind, metric=metric, dim=dim)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`; writes no file."""
        progress(len(vectors))

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Flat:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the vectors have another dimension than the spec."""
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise VssError(
                Code.CORRUPT, f"got vectors of shape {vectors.shape}, the index was made for (n, {spec.dim})"
            )
        return Flat(spec, vectors)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """None: it is exact."""
        return ()


class FlatGrowing:
    """`vss.protocols.Growing`: there is nothing to keep."""

    def __init__(self, metric: Metric, dim: int) -> None:
        self._spec = FlatBuilder().spec(metric, dim, {})

    def index(self, vectors: Vectors) -> Flat:
        """As `Growing.index`."""
        return Flat(self._spec, vectors)

    def anew(self) -> FlatGrowing:
        """As `Growing.anew`."""
        return self
