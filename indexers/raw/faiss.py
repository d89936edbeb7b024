"""`raw-faiss-hnsw` and `raw-faiss-flat`: FAISS alone. The second is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.faiss_io import METRICS, faiss, threads_of_faiss
from indexers.raw.library import EF_CONSTRUCTION, FILE, M, RawIndex
from vss.types import Mask, Metric, Progress, Vectors


class RawFaissHnsw:
    """`IndexHNSWFlat`: graph and float vectors in one."""

    kind = "raw-faiss-hnsw"
    params: dict[str, int | float | str] = {"m": M, "ef_construction": EF_CONSTRUCTION}  # noqa: RUF012
    supports = frozenset(METRICS)

    def build(self, vectors: Vectors, metric: Metric, out: Path, *, threads: int, progress: Progress) -> None:
        """As `RawLibrary.build`; one call, as the library's users make it."""
        graph = faiss.IndexHNSWFlat(vectors.shape[1], M, METRICS[metric])
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        with threads_of_faiss(threads):
            graph.add(vectors)
        faiss.write_index(graph, str(out / FILE))
        progress(len(vectors))

    def open(self, folder: Path, metric: Metric, dim: int) -> RawIndex:
        """As `RawLibrary.open`."""
        return _Graph(faiss.read_index(str(folder / FILE)))


class RawFaissFlat:
    """`IndexFlat`: every vector is scored."""

    kind = "raw-faiss-flat"
    params: dict[str, int | float | str] = {}  # noqa: RUF012
    supports = frozenset(METRICS)

    def build(self, vectors: Vectors, metric: Metric, out: Path, *, threads: int, progress: Progress) -> None:
        """As `RawLibrary.build`."""
        flat = faiss.IndexFlat(vectors.shape[1], METRICS[metric])
        flat.add(vectors)
        faiss.write_index(flat, str(out / FILE))
        progress(len(vectors))

    def open(self, folder: Path, metric: Metric, dim: int) -> RawIndex:
        """As `RawLibrary.open`."""
        return _Opened(faiss.read_index(str(folder / FILE)))


class _Opened:
    def __init__(self, index: Any) -> None:
        self._index = index

    def effort(self, effort: int) -> None:
        """There is none."""

    def rows(self, queries: Vectors, k: int) -> NDArray[Any]:
        found: NDArray[Any] = self._index.search(queries, k)[1]
        return found


class _Graph(_Opened):
    def effort(self, effort: int) -> None:
        self._index.hnsw.efSearch = effort

    def rows_allowed(self, queries: Vectors, k: int, allow: Mask) -> NDArray[Any]:
        bits = np.packbits(allow, bitorder="little")
        chosen = faiss.IDSelectorBitmap(bits)
        params = faiss.SearchParametersHNSW(efSearch=self._index.hnsw.efSearch, sel=chosen)
        found: NDArray[Any] = self._index.search(queries, k, params=params)[1]
        return found
