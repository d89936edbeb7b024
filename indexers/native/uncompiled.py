"""`native` and `coded` where the kernel was not compiled: what another machine built is served, exactly and slower."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from indexers.flat import Flat, FlatBuilder
from vss.errors import Code, VssError
from vss.protocols import IndexSpec
from vss.types import Metric, Progress, Vectors

log = logging.getLogger(__name__)

HINT = "install vss-service again where there is a C++17 compiler and Python's headers, or use --index faiss_hnsw"


class UncompiledBuilder:
    """Builds nothing (VssError, UNAVAILABLE); opens an index of this kind as an exact scan of its vectors.

    why: what kept the kernel from being imported
    """

    def __init__(self, kind: str, why: str) -> None:
        self.kind = kind
        self._why = why

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """VssError (UNAVAILABLE)."""
        raise self._unavailable()

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """VssError (UNAVAILABLE)."""
        raise self._unavailable()

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Flat:
        """As `FlatBuilder.open`."""
        log.warning(
            "a %s index of %d vectors is scanned: the kernel is not compiled (%s)", self.kind, len(vectors), self._why
        )
        return FlatBuilder().open({}, spec, vectors)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """None: a scan is exact."""
        return ()

    def _unavailable(self) -> VssError:
        return VssError(Code.UNAVAILABLE, f"the kernel of {self.kind} cannot be imported: {self._why}", hint=HINT)
