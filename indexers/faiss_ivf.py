"""`faiss_ivf`: lists of points around centroids (Sivic & Zisserman 2003), a few of which are read per query.

The lists hold codes, and the best candidates are scored again on the float vectors, where the caller has mapped them:

    sq8      one byte a component
    pq       product quantisation (Jegou, Douze & Schmid 2011); 4 bits are read by FAISS's fast scan (Andre et al. 2015)
    rabitq   one bit a component and more (Gao & Long 2024, arXiv:2405.12497), after a random rotation

Caveats:
- Recall follows from how many lists are read (nprobe), and is lower at equal speed than a graph's; an index is built
  many times faster and needs less memory.
- FAISS can also leave rows out inside the lists (IDSelectorBitmap). That is not used, for the reason that holds for
  graphs: lists near the query may hold k allowed rows that are the wrong ones. Where the nearest 5%, 20% and 40% of
  20,000 clustered points were left out, recall@10 was 0.57, 0.27 and 0.20; here it is 1. See `indexers.approximate`.
- Manhattan is refused; `flat` has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from indexers.approximate import Approximate
from indexers.faiss_io import FILE, METRICS, Rescored, check, faiss, read, search, threads_of_faiss
from indexers.params import checked, corrupt
from vss.errors import invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Metric, Progress, Vectors

EFFORTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

LISTS_PER_ROOT = 4
"""Lists made of n points where none are asked for: so many times the square root of n."""

MIN_LIST = 39
"""Points per list below which FAISS thinks a centroid badly trained; fewer points make fewer lists."""

TRAIN_PER_LIST = 64
MIN_TRAIN_ROWS = 65_536
"""Rows that centroids and codes are learned from, spread evenly: the larger of the two, at most all."""

CODE_COST = 0.5
"""Time of reading one code, in that of scoring one row exactly (50,000 x 128 and 1 thread: 0.02 us against 0.043)."""

QUERY_BITS = 8
"""Bits of a query's component under rabitq: as exact as floats on clustered data, and 14 times faster."""

_SEED = 7
_DEFAULTS: dict[str, int | float | str] = {"storage": "sq8", "nlist": 0, "m": 0, "bits": 0, "rescore": 0}
_RANGES = {"nlist": (0, 1 << 20), "m": (0, 4096), "bits": (0, 9), "rescore": (0, 1000)}
_CHOICES = {"storage": ("sq8", "pq", "rabitq")}
_BITS = {"sq8": (8,), "pq": (4, 8), "rabitq": (1, 2, 3, 4, 5, 6, 7, 8, 9)}
"""What each storage can have; the first is the default."""
_RESCORE = {("sq8", 8): 2, ("pq", 4): 20, ("pq", 8): 10, ("rabitq", 1): 20}
"""Candidates scored again per wanted row, by storage and bits, and 10 for others: what brought recall@10 of 8,000
clustered points in 32 dimensions to within 0.01 of reading the same lists in full."""


class FaissIvf(Approximate):
    """Lists of codes; effort is the number of lists read."""

    default_effort = 64

    def __init__(self, spec: IndexSpec, handle: Rescored, vectors: Vectors, lists: int) -> None:
        super().__init__(spec, handle, vectors, int(spec.params["rescore"]))
        self._lists = lists

    def _scan_rows(self, effort: int) -> float:
        return self._lists + CODE_COST * effort * self._count / self._lists

    def _nearest(self, handle: Rescored, queries: Vectors, k: int, effort: int) -> Hits:
        return handle.search(queries, k, self._rescore, self._params(effort), self.spec.metric)

    def _candidates(self, handle: Rescored, queries: Vectors, k: int, effort: int) -> Hits:
        return search(handle.codes, queries, k, self._params(effort), self.spec.metric)

    def _params(self, effort: int) -> Any:
        return _probing(min(effort, self._lists), self.spec.params["storage"] == "rabitq")


class FaissIvfBuilder:
    """Trains on a sample, then adds the points in blocks."""

    kind = "faiss_ivf"

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`. 0 takes the default, and stands for it where that depends on the number of points.

        storage: "sq8" (default), "pq" or "rabitq": what the lists hold
        nlist:   number of lists; default 0: 4 times the square root of the number of points, fewer for few points
        bits:    of a component under rabitq: 1 (default) to 9; of one of the m codes under pq: 4 (default) or 8
        m:       codes per vector under pq, a divisor of dim; default: a byte for every 4 components
        rescore: candidates scored again per wanted row: default 2 for sq8, 20 for pq of 4 bits and rabitq of 1, else 10
        """
        if metric not in METRICS:
            raise invalid(f"faiss_ivf cannot search under {metric}", field="metric", hint="use the index kind flat")
        full = checked(self.kind, params, _DEFAULTS, _RANGES, _CHOICES)
        storage = str(full["storage"])
        full["bits"] = full["bits"] or _BITS[storage][0]
        full["rescore"] = full["rescore"] or _RESCORE.get((storage, int(full["bits"])), 10)
        if full["bits"] not in _BITS[storage]:
            wanted = ", ".join(map(str, _BITS[storage]))
            raise invalid(f"got {full['bits']} for {storage}, wanted one of {wanted}", field="bits")
        if storage == "pq":
            least = dim * 2 // int(full["bits"])
            full["m"] = full["m"] or next(m for m in range(max(1, least), dim + 1) if dim % m == 0)
            if dim % int(full["m"]):
                raise invalid(f"got {full['m']}, wanted a divisor of the dimension {dim}", field="m")
        elif full["m"]:
            raise invalid(f"got {full['m']}, but only pq has m", field="m", hint="leave it out")
        return IndexSpec(kind=self.kind, metric=metric, dim=dim, params=full)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`; writes `index.faiss`. Beyond the codes it needs memory for the training sample."""
        vectors = np.asarray(vectors)
        count, lists = len(vectors), _lists(spec, len(vectors))
        with threads_of_faiss(threads):
            index = _empty(spec, lists)
            if count:
                rows = max(TRAIN_PER_LIST * lists, MIN_TRAIN_ROWS)
                sample = np.ascontiguousarray(vectors[:: -(-count // rows)])
                # A codebook of 2^bits entries needs as many rows; a few repeated ones do.
                least = 1 << int(spec.params["bits"]) if spec.params["storage"] == "pq" else 1
                index.train(np.resize(sample, (max(len(sample), least), spec.dim)))
            step = min(max(4096, count // 64), 65_536)
            for start in range(0, count, step):
                block = np.ascontiguousarray(vectors[start : start + step])
                index.add(block)
                progress(len(block))
        faiss.write_index(index, str(out / FILE))

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> FaissIvf:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the file cannot be read or is of another index."""
        index, vectors = read(files, spec, vectors)
        lists = _lists(spec, len(vectors))
        like = _empty(spec, lists)
        check(index, spec, len(vectors), type(like).__name__)
        want, got = _shape(like), _shape(index)
        if got != want:
            raise corrupt(f"got (class, lists, bytes of a code) {got} in {FILE}, wanted {want}")
        return FaissIvf(spec, Rescored(index, vectors, spec.metric), vectors, lists)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Numbers of lists; those above the number there is are that number."""
        return EFFORTS


@lru_cache(maxsize=1024)
def _probing(probes: int, rotated: bool) -> Any:
    """Making these takes microseconds, and searches only read them."""
    if rotated:
        inner = faiss.IVFRaBitQSearchParameters(nprobe=probes, qb=QUERY_BITS)
        return faiss.SearchParametersPreTransform(index_params=inner)
    return faiss.SearchParametersIVF(nprobe=probes)


def _lists(spec: IndexSpec, count: int) -> int:
    """How many lists an index of `count` points has."""
    given = int(spec.params["nlist"])
    return max(1, min(given, count) if given else min(round(LISTS_PER_ROOT * math.sqrt(count)), count // MIN_LIST))


def _empty(spec: IndexSpec, lists: int) -> Any:
    metric, dim, bits, m = METRICS[spec.metric], spec.dim, spec.params["bits"], spec.params["m"]
    centroids = faiss.IndexFlat(dim, metric)
    match spec.params["storage"]:
        case "sq8":
            code = faiss.ScalarQuantizer.QT_8bit
            index = faiss.IndexIVFScalarQuantizer(centroids, dim, lists, code, metric, False)
        case "pq":
            kind = faiss.IndexIVFPQFastScan if bits == 4 else faiss.IndexIVFPQ
            index = kind(centroids, dim, lists, m, bits, metric)
            index.pq.cp.min_points_per_centroid = 1
        case _:
            index = faiss.IndexIVFRaBitQ(centroids, dim, lists, metric, True, bits)
    centroids.this.disown()
    index.own_fields = True
    index.cp.seed = _SEED
    index.cp.spherical = spec.metric is Metric.COSINE
    # It warns on stderr of fewer than 39, which very few points come to.
    index.cp.min_points_per_centroid = 1
    if spec.params["storage"] != "rabitq":
        return index
    rotation = faiss.RandomRotationMatrix(dim, dim)
    rotation.init(_SEED)
    turned = faiss.IndexPreTransform(rotation, index)
    for part in (rotation, index):
        part.this.disown()
    turned.own_fields = True
    return turned


def _shape(index: Any) -> tuple[str, int, int]:
    lists = faiss.extract_index_ivf(index)
    return type(lists).__name__, lists.nlist, lists.code_size
