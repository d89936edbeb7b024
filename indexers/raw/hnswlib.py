"""`raw-hnswlib`: hnswlib alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
from numpy.typing import NDArray

from indexers.raw.library import EF_CONSTRUCTION, FILE, M, RawIndex
from vss.types import Metric, Progress, Vectors

_SPACES = {Metric.COSINE: "ip", Metric.DOT: "ip", Metric.EUCLID: "l2"}
"""The vectors have unit length under Cosine already; "cosine" would normalise each query once more."""


class RawHnswlib:
    """Its graph, built and searched by itself."""

    kind = "raw-hnswlib"
    params: dict[str, int | float | str] = {"m": M, "ef_construction": EF_CONSTRUCTION}  # noqa: RUF012
    supports = frozenset(_SPACES)

    def build(self, vectors: Vectors, metric: Metric, out: Path, *, threads: int, progress: Progress) -> None:
        """As `RawLibrary.build`; one call, as the library's users make it."""
        graph = hnswlib.Index(_SPACES[metric], vectors.shape[1])
        graph.init_index(max_elements=len(vectors), M=M, ef_construction=EF_CONSTRUCTION)
        graph.add_items(vectors, np.arange(len(vectors)), num_threads=threads)
        graph.save_index(str(out / FILE))
        progress(len(vectors))

    def open(self, folder: Path, metric: Metric, dim: int) -> RawIndex:
        """As `RawLibrary.open`."""
        graph = hnswlib.Index(_SPACES[metric], dim)
        graph.load_index(str(folder / FILE))
        graph.set_num_threads(1)
        return _Opened(graph)


class _Opened:
    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def effort(self, effort: int) -> None:
        self._graph.set_ef(effort)

    def rows(self, queries: Vectors, k: int) -> NDArray[Any]:
        found: NDArray[Any] = self._graph.knn_query(queries, k, num_threads=1)[0]
        return found
