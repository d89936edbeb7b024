"""What the FAISS backends share: reading an index file, and the caller's float vectors as an index of FAISS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss as faiss_with_stubs
import numpy as np

from indexers.params import corrupt
from vss.protocols import IndexSpec
from vss.types import Hits, Metric, Vectors

faiss: Any = faiss_with_stubs
"""Its type stubs lack or contradict most of what is used here."""

FILE = "index.faiss"

METRICS = {
    Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
    Metric.DOT: faiss.METRIC_INNER_PRODUCT,
    Metric.EUCLID: faiss.METRIC_L2,
}


def read(files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors, flags: int = 0) -> tuple[Any, Vectors]:
    """The index in FILE, mapped, and the vectors in C order. VssError (CORRUPT)."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
        raise corrupt(f"got vectors of shape {vectors.shape}, wanted (n, {spec.dim})")
    if FILE not in files:
        raise corrupt(f"got the files {sorted(files)}, wanted {FILE}")
    try:
        return faiss.read_index(str(files[FILE]), faiss.IO_FLAG_MMAP_IFC | flags), vectors
    except RuntimeError as error:
        raise corrupt(f"FAISS cannot read {FILE}") from error


def check(index: Any, spec: IndexSpec, count: int, kind: str) -> None:
    """The file agrees with spec and vectors: FAISS would read past an array where it does not. VssError (CORRUPT)."""
    want = (kind, spec.dim, count, METRICS[spec.metric])
    got = (type(index).__name__, index.d, index.ntotal, index.metric_type)
    if got != want:
        raise corrupt(f"got (class, dim, points, metric) {got} in {FILE}, wanted {want}")


def view_of(vectors: Vectors, metric: Metric) -> Any:
    """A flat FAISS index that reads these vectors where they lie; the caller keeps them alive."""
    flat = faiss.IndexFlat(vectors.shape[1], METRICS[metric])
    if len(vectors):
        # MaybeOwnedVector::create_view needs an owner that Python cannot make; these are the fields it sets.
        codes, start = flat.codes, faiss.swig_ptr(vectors.view(np.uint8))
        codes.is_owned = False
        codes.view_data = codes.c_ptr = start
        codes.view_size = codes.c_size = vectors.nbytes
        flat.ntotal = len(vectors)
    return flat


class Rescored:
    """A FAISS index of codes, with its best candidates scored again on float vectors: one call, all in C++."""

    def __init__(self, codes: Any, vectors: Vectors, metric: Metric) -> None:
        self.codes = codes
        self._flat = view_of(vectors, metric)
        self._refine = faiss.IndexRefine(codes, self._flat)

    def search(self, queries: Vectors, k: int, rescore: int, params: Any, metric: Metric) -> Hits:
        """The `(q, k)` best of `k * rescore` candidates, which are found with `params`."""
        return search(self._refine, queries, k, _refining(rescore, params), metric)


@lru_cache(maxsize=1024)
def _refining(rescore: int, params: Any) -> Any:
    return faiss.IndexRefineSearchParameters(k_factor=rescore, base_index_params=params)


def search(index: Any, queries: Vectors, k: int, params: Any, metric: Metric) -> Hits:
    """The `(q, k)` best by the scores of a FAISS index; `queries` `(q, dim)` are float32 in C order."""
    count = len(queries)
    scores = np.empty((count, k), dtype=np.float32)
    rows = np.empty((count, k), dtype=np.int64)
    # `index.search` would check and convert again what is known here.
    index.search_c(count, faiss.swig_ptr(queries), k, faiss.swig_ptr(scores), faiss.swig_ptr(rows), params)
    if metric is Metric.EUCLID:
        # Codes may put a point a little nearer than at no distance.
        np.maximum(scores, 0, out=scores)
        np.sqrt(scores, out=scores)
        np.subtract(0, scores, out=scores)
    return Hits(rows, scores)


@contextmanager
def threads_of_faiss(threads: int) -> Iterator[None]:
    """FAISS with so many threads, for the calling thread."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
