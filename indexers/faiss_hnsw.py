"""`faiss_hnsw`: a navigable small-world graph (Malkov & Yashunin 2016, arXiv:1603.09320), made and walked by FAISS.

Caveats:
- Under Dot, vectors of different norms make a weaker graph: on 50,000 clustered 128-d vectors recall@10 at effort 64
  fell from 0.995 (unit length) to 0.984 (norms lognormal(0, 1)); effort 256 gave 0.998. `flat` is exact.
- FAISS can also walk under a mask. That is not used: it ends with k rows that are the wrong ones when the mask leaves
  out the query's surroundings (recall@10 0.03 to 0.25 on 20,000 clustered points at effort 64 scaled up likewise).
- Manhattan is refused; `flat` has it.

With storage "float32" the file holds the graph only: the search reads the float vectors where the caller has
mapped them, so they lie on disk and in memory once. With "sq8" the file also holds one byte per component; the graph
is walked on those, and the best candidates are re-scored on the float vectors. The file is mapped, not read, so
processes share its pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss as faiss_with_stubs
import numpy as np

from vss.distance import best_of, exact_search, score_rows
from vss.errors import Code, VssError, invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Mask, Metric, Progress, Vectors

faiss: Any = faiss_with_stubs
"""Its type stubs lack or contradict most of what is used here."""

FILE = "index.faiss"

DEFAULT_EFFORT = 64

EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

SCAN_ROWS_PER_EFFORT = 25
"""A graph walk takes the time of scoring this many rows, per unit of effort (50,000 x 128 and 1 thread: 1.1 us
against 0.043 us a row). Where the walk would cost more than the scan, the scan is taken, and is exact."""

RESCORE = 2
"""Candidates re-scored per wanted row under sq8: 1.5 already gave back float32's recall on clustered data."""

MASKED_SLACK = 2
"""Allowed rows expected of a masked walk per wanted row, so that few walks come home with too little."""

TRAIN_ROWS = 65_536
"""Rows that the ranges of sq8 are learned from, spread evenly."""

_FAISS_METRICS = {
    Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
    Metric.DOT: faiss.METRIC_INNER_PRODUCT,
    Metric.EUCLID: faiss.METRIC_L2,
}
_DEFAULTS: dict[str, int | float | str] = {"m": 16, "ef_construction": 200, "storage": "float32"}
_RANGES = {"m": (2, 128), "ef_construction": (4, 4096)}
_STORAGES = ("float32", "sq8")


class FaissHnsw:
    """A graph over `(n, dim)` vectors. Searches may run in many threads at once."""

    def __init__(self, spec: IndexSpec, graph: Any, vectors: Vectors) -> None:
        self.spec = spec
        self._count = len(vectors)
        self._rescored = spec.params["storage"] == "sq8"
        # The graph points into the vectors: a search holds both, so `close` cannot pull them away under it.
        self._open: tuple[Any, Vectors] | None = (graph, vectors)

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, *, allow: Mask | None = None, effort: int | None = None) -> Hits:
        """As `Index.search`; effort is efSearch as if nothing were filtered, at least k; None is DEFAULT_EFFORT.

        Under `allow` the walk is not masked: it asks for more rows as the allowed part shrinks, and keeps the allowed
        ones. k of them among the nearest are the k nearest allowed, however the mask lies to the query; where fewer
        are among them, or where it is cheaper from the start, the allowed rows are scanned.
        """
        if self._open is None:
            raise VssError(Code.UNAVAILABLE, "the index was closed", hint="open it again")
        graph, vectors = self._open
        if queries.ndim != 2 or queries.shape[1] != self.spec.dim:
            raise invalid(f"got queries of shape {queries.shape}, wanted (q, {self.spec.dim})")
        allowed = self._count
        if allow is not None:
            if len(allow) != self._count:
                raise invalid(f"got a mask of {len(allow)} rows, wanted {self._count}")
            allowed = int(np.count_nonzero(allow))
        take = min(k, allowed)
        if take == 0:
            return exact_search(queries, vectors[:0], k, self.spec.metric)
        wide = min(take * RESCORE, allowed) if self._rescored else take
        least = wide if allow is None else take * MASKED_SLACK
        ef = max(DEFAULT_EFFORT if effort is None else effort, least) * self._count // allowed
        if allowed <= SCAN_ROWS_PER_EFFORT * ef:
            return exact_search(queries, vectors, k, self.spec.metric, allow)
        hits = self._walk(graph, queries, wide if allow is None else ef, ef)
        if allow is not None:
            refused = (hits.rows < 0) | ~allow[hits.rows]
            hits.rows[refused], hits.scores[refused] = -1, -np.inf
            hits = best_of(hits.rows, hits.scores, wide)
        if self._rescored:
            hits = best_of(hits.rows, score_rows(queries, vectors, hits.rows, self.spec.metric), take)
        short = hits.rows[:, take - 1] < 0
        if short.any():
            found = exact_search(queries[short], vectors, take, self.spec.metric, allow)
            hits.rows[short], hits.scores[short] = found.rows, found.scores
        return hits if take == k else _padded(hits, k)

    def close(self) -> None:
        """Let go of the graph and the vectors; searches under way finish."""
        self._open = None

    def _walk(self, graph: Any, queries: Vectors, k: int, ef: int) -> Hits:
        """What the graph finds when nothing is filtered, scored on what it stores."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        count = len(queries)
        scores = np.empty((count, k), dtype=np.float32)
        rows = np.empty((count, k), dtype=np.int64)
        params = faiss.SearchParametersHNSW(efSearch=ef)
        # `graph.search` would check and convert again what is known here.
        graph.search_c(count, faiss.swig_ptr(queries), k, faiss.swig_ptr(scores), faiss.swig_ptr(rows), params)
        if self.spec.metric is Metric.EUCLID:
            np.sqrt(scores, out=scores)
            np.subtract(0, scores, out=scores)
        return Hits(rows, scores)


class FaissHnswBuilder:
    """Builds with as many threads as told; holds a copy of the vectors (or their codes) while it does."""

    kind = "faiss_hnsw"

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`.

        m:               2 to 128, default 16: links of a node (twice that on the ground level)
        ef_construction: 4 to 4096, default 200: effort of placing a node
        storage:         "float32" (default) or "sq8": what the graph is walked on
        """
        if metric not in _FAISS_METRICS:
            raise invalid(f"faiss_hnsw cannot search under {metric}", field="metric", hint="use the index kind flat")
        for name, value in params.items():
            if name not in _DEFAULTS:
                raise invalid(
                    f"faiss_hnsw has no parameter {name!r}", field=name, hint=f"it has {', '.join(_DEFAULTS)}"
                )
            if name in _RANGES:
                low, high = _RANGES[name]
                if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                    raise invalid(f"got {value!r}, wanted a whole number from {low} to {high}", field=name)
            elif value not in _STORAGES:
                raise invalid(f"got {value!r}, wanted one of {', '.join(_STORAGES)}", field=name)
        return IndexSpec(kind=self.kind, metric=metric, dim=dim, params={**_DEFAULTS, **params})

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`; writes `index.faiss`."""
        vectors = np.asarray(vectors)
        count = len(vectors)
        threads_before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
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
        finally:
            faiss.omp_set_num_threads(threads_before)
        flags = faiss.IO_FLAG_SKIP_STORAGE if spec.params["storage"] == "float32" else 0
        faiss.write_index(graph, str(out / FILE), flags)

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> FaissHnsw:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the file cannot be read or is of another index."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise _corrupt(f"got vectors of shape {vectors.shape}, wanted (n, {spec.dim})")
        if FILE not in files:
            raise _corrupt(f"got the files {sorted(files)}, wanted {FILE}")
        floats = spec.params["storage"] == "float32"
        flags = faiss.IO_FLAG_MMAP_IFC | (faiss.IO_FLAG_SKIP_STORAGE if floats else 0)
        try:
            graph = faiss.read_index(str(files[FILE]), flags)
        except RuntimeError as error:
            raise _corrupt(f"FAISS cannot read {FILE}") from error
        _check(graph, spec, len(vectors))
        if floats:
            _attach(graph, vectors)
        return FaissHnsw(spec, graph, vectors)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Values of efSearch."""
        return EFFORTS


def _empty_graph(spec: IndexSpec) -> Any:
    metric, m = _FAISS_METRICS[spec.metric], spec.params["m"]
    if spec.params["storage"] == "sq8":
        return faiss.IndexHNSWSQ(spec.dim, faiss.ScalarQuantizer.QT_8bit, m, metric)
    return faiss.IndexHNSWFlat(spec.dim, m, metric)


def _attach(graph: Any, vectors: Vectors) -> None:
    """Give a graph that was read without its vectors a view of these; the caller keeps them alive."""
    storage = faiss.IndexFlat(graph.d, graph.metric_type)
    if len(vectors):
        # MaybeOwnedVector::create_view needs an owner that Python cannot make; these are the fields it sets.
        codes, start = storage.codes, faiss.swig_ptr(vectors.view(np.uint8))
        codes.is_owned = False
        codes.view_data = codes.c_ptr = start
        codes.view_size = codes.c_size = vectors.nbytes
        storage.ntotal = len(vectors)
    graph.storage = storage
    storage.this.disown()
    graph.own_fields = True


def _check(graph: Any, spec: IndexSpec, count: int) -> None:
    """The file agrees with the spec and the vectors: FAISS would read past an array where it does not."""
    want = (type(_empty_graph(spec)).__name__, spec.dim, count, _FAISS_METRICS[spec.metric])
    got = (type(graph).__name__, graph.d, graph.ntotal, graph.metric_type)
    if got != want:
        raise _corrupt(f"got (class, dim, points, metric) {got} in {FILE}, wanted {want}")
    if graph.hnsw.nb_neighbors(1) != spec.params["m"]:
        raise _corrupt(f"got m {graph.hnsw.nb_neighbors(1)} in {FILE}, wanted {spec.params['m']}")


def _padded(hits: Hits, k: int) -> Hits:
    more = ((0, 0), (0, k - hits.rows.shape[1]))
    return Hits(np.pad(hits.rows, more, constant_values=-1), np.pad(hits.scores, more, constant_values=-np.inf))


def _corrupt(message: str) -> VssError:
    return VssError(Code.CORRUPT, message, hint="restore the artifact, or build the index again")
