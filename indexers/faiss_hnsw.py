"""`faiss_hnsw`: a navigable small-world graph (Malkov & Yashunin 2016, arXiv:1603.09320), made and walked by FAISS.

Caveats:
- Under Dot, vectors of different norms make a weaker graph: on 50,000 clustered 128-d vectors recall@10 at effort 64
  fell from 0.995 (unit length) to 0.984 (norms lognormal(0, 1)); effort 256 gave 0.998. `flat` is exact.
- FAISS can also walk under a mask. That is not used: it ends with k rows that are the wrong ones when the mask leaves
  out the query's surroundings (recall@10 0.03 to 0.25 on 20,000 clustered points at effort 64 scaled up likewise).
- Manhattan is refused; `flat` has it.

With storage "float32" the file holds the graph only: the search reads the float vectors where the caller has
mapped them, so they lie on disk and in memory once. With "fp16" or "sq8" the file also holds two bytes or one per
component; the graph is walked on those, and the best candidates are scored again on the float vectors. The file is
mapped, not read, so processes share its pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from indexers.approximate import Approximate
from indexers.faiss_io import FILE, METRICS, Rescored, check, faiss, read, search, threads_of_faiss, view_of
from indexers.params import checked, corrupt
from vss.errors import invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Metric, Progress, Vectors

EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

SCAN_ROWS_PER_EFFORT = 25
"""A graph walk takes the time of scoring this many rows, per unit of effort (50,000 x 128 and 1 thread: 1.1 us
against 0.043 us a row). Where the walk would cost more than the scan, the scan is taken, and is exact."""

RESCORE = 2
"""Candidates scored again per wanted row: 1.5 already gave back float32's recall under sq8 on clustered data."""

TRAIN_ROWS = 65_536
"""Rows that the ranges of sq8 are learned from, spread evenly."""

_DEFAULTS: dict[str, int | float | str] = {"m": 16, "ef_construction": 200, "storage": "float32"}
_RANGES = {"m": (2, 128), "ef_construction": (4, 4096)}
_CODES = {"fp16": faiss.ScalarQuantizer.QT_fp16, "sq8": faiss.ScalarQuantizer.QT_8bit}
_CHOICES = {"storage": ("float32", *_CODES)}


class FaissHnsw(Approximate):
    """A graph; effort is efSearch, at least the number of candidates."""

    default_effort = 64

    def _effort(self, asked: int, wide: int) -> int:
        return max(asked, wide)

    def _scan_rows(self, effort: int) -> float:
        return SCAN_ROWS_PER_EFFORT * effort

    def _nearest(self, handle: Any, queries: Vectors, k: int, effort: int) -> Hits:
        params = _walking(effort)
        if isinstance(handle, Rescored):
            return handle.search(queries, k, self._rescore, params, self.spec.metric)
        return search(handle, queries, k, params, self.spec.metric)

    def _candidates(self, handle: Any, queries: Vectors, k: int, effort: int) -> Hits:
        graph = handle.codes if isinstance(handle, Rescored) else handle
        # A walk of effort e finds e rows anyway.
        ef = max(effort, k)
        return search(graph, queries, ef, _walking(ef), self.spec.metric)


class FaissHnswBuilder:
    """Builds with as many threads as told; holds a copy of the vectors (or their codes) while it does."""

    kind = "faiss_hnsw"

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`.

        m:               2 to 128, default 16: links of a node (twice that on the ground level)
        ef_construction: 4 to 4096, default 200: effort of placing a node
        storage:         "float32" (default), "fp16" or "sq8": what the graph is walked on
        """
        if metric not in METRICS:
            raise invalid(f"faiss_hnsw cannot search under {metric}", field="metric", hint="use the index kind flat")
        full = checked(self.kind, params, _DEFAULTS, _RANGES, _CHOICES)
        return IndexSpec(kind=self.kind, metric=metric, dim=dim, params=full)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`; writes `index.faiss`."""
        vectors = np.asarray(vectors)
        count = len(vectors)
        with threads_of_faiss(threads):
            graph = _empty_graph(spec)
            graph.hnsw.efConstruction = spec.params["ef_construction"]
            storage = faiss.downcast_index(graph.storage)
            if count and not graph.is_trained:
                graph.train(np.ascontiguousarray(vectors[:: -(-count // TRAIN_ROWS)]))
            # Sized once: growing by doubling would need three times the memory at its peak.
            storage.codes.resize(count * storage.code_size)
            storage.codes.resize(0)
            step = min(max(4096, count // 64), 65_536)
            for start in range(0, count, step):
                block = np.ascontiguousarray(vectors[start : start + step])
                graph.add(block)
                progress(len(block))
        faiss.write_index(graph, str(out / FILE), _without_storage(spec))

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> FaissHnsw:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the file cannot be read or is of another index."""
        graph, vectors = read(files, spec, vectors, _without_storage(spec))
        check(graph, spec, len(vectors), type(_empty_graph(spec)).__name__)
        if graph.hnsw.nb_neighbors(1) != spec.params["m"]:
            raise corrupt(f"got m {graph.hnsw.nb_neighbors(1)} in {FILE}, wanted {spec.params['m']}")
        code = _CODES.get(str(spec.params["storage"]))
        if code is not None:
            if faiss.downcast_index(graph.storage).sq.qtype != code:
                raise corrupt(f"the codes in {FILE} are not {spec.params['storage']}")
            return FaissHnsw(spec, Rescored(graph, vectors, spec.metric), vectors, RESCORE)
        graph.storage = storage = view_of(vectors, spec.metric)
        storage.this.disown()
        graph.own_fields = True
        return FaissHnsw(spec, graph, vectors)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Values of efSearch."""
        return EFFORTS


@lru_cache(maxsize=1024)
def _walking(effort: int) -> Any:
    """Making these takes microseconds, and searches only read them."""
    return faiss.SearchParametersHNSW(efSearch=effort)


def _empty_graph(spec: IndexSpec) -> Any:
    metric, m = METRICS[spec.metric], spec.params["m"]
    code = _CODES.get(str(spec.params["storage"]))
    if code is not None:
        return faiss.IndexHNSWSQ(spec.dim, code, m, metric)
    return faiss.IndexHNSWFlat(spec.dim, m, metric)


def _without_storage(spec: IndexSpec) -> int:
    return int(faiss.IO_FLAG_SKIP_STORAGE) if spec.params["storage"] == "float32" else 0
