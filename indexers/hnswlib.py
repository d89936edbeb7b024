"""`hnswlib`: a navigable small-world graph (Malkov & Yashunin 2016, arXiv:1603.09320), by its authors' library.

Caveats:
- The library's file holds the float vectors a second time, and is read into memory, not mapped.
- Built with several threads, the graph differs a little from build to build.
- The file does not say which metric it was built for; the manifest does.
- Manhattan is refused; `flat` has it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from indexers.approximate import Approximate
from indexers.params import checked, corrupt
from vss.errors import invalid
from vss.protocols import IndexSpec
from vss.types import Hits, Metric, Progress, Vectors

FILE = "index.hnswlib"

EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

SCAN_ROWS_PER_EFFORT = 25
"""A graph walk takes the time of scoring about this many rows, per unit of effort."""

_SPACES = {Metric.COSINE: "ip", Metric.DOT: "ip", Metric.EUCLID: "l2"}
"""Vectors arrive normalised under Cosine."""

_SEED = 7
_DEFAULTS: dict[str, int | float | str] = {"m": 16, "ef_construction": 200}
_RANGES = {"m": (2, 128), "ef_construction": (4, 4096)}
_HEADER = struct.Struct("<6QiI3QdQ")
"""First level's offset, room, points, bytes of a point, where its label and its vector lie in it, top level, entry
point, links above and on the ground, m, level factor, ef_construction."""


class Hnswlib(Approximate):
    """A graph; effort is ef, at least k."""

    default_effort = 64

    def _effort(self, asked: int, wide: int) -> int:
        return max(asked, wide)

    def _scan_rows(self, effort: int) -> float:
        return SCAN_ROWS_PER_EFFORT * effort

    def _nearest(self, handle: Any, queries: Vectors, k: int, effort: int) -> Hits:
        hits = self._candidates(handle, queries, k, effort)
        return Hits(np.ascontiguousarray(hits.rows[:, :k]), np.ascontiguousarray(hits.scores[:, :k]))

    def _candidates(self, handle: Any, queries: Vectors, k: int, effort: int) -> Hits:
        # ef is a setting of the whole index, which other threads search too; but it is never below the rows asked for.
        wide = min(max(effort, k), len(self))
        try:
            rows, distances = handle.knn_query(queries, wide, num_threads=1)
        except RuntimeError:  # a graph in pieces has fewer within reach
            shape = (len(queries), wide)
            return Hits(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32))
        scores = np.float32(0) - np.sqrt(distances) if self.spec.metric is Metric.EUCLID else np.float32(1) - distances
        return Hits(rows.astype(np.int64), scores)


class HnswlibBuilder:
    """Builds with as many threads as told; holds a copy of the vectors while it does."""

    kind = "hnswlib"

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`.

        m:               2 to 128, default 16: links of a node (twice that on the ground level)
        ef_construction: 4 to 4096, default 200: effort of placing a node
        """
        if metric not in _SPACES:
            raise invalid(f"hnswlib cannot search under {metric}", field="metric", hint="use the index kind flat")
        full = checked(self.kind, params, _DEFAULTS, _RANGES, {})
        return IndexSpec(kind=self.kind, metric=metric, dim=dim, params=full)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`; writes `index.hnswlib`."""
        vectors = np.asarray(vectors)
        count = len(vectors)
        graph = hnswlib.Index(_SPACES[spec.metric], spec.dim)
        graph.init_index(
            max_elements=max(1, count),
            M=spec.params["m"],
            ef_construction=spec.params["ef_construction"],
            random_seed=_SEED,
        )
        step = min(max(4096, count // 64), 65_536)
        for start in range(0, count, step):
            block = np.ascontiguousarray(vectors[start : start + step])
            graph.add_items(block, np.arange(start, start + len(block)), num_threads=threads)
            progress(len(block))
        graph.save_index(str(out / FILE))

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Hnswlib:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the file cannot be read or is of another index."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise corrupt(f"got vectors of shape {vectors.shape}, wanted (n, {spec.dim})")
        if FILE not in files:
            raise corrupt(f"got the files {sorted(files)}, wanted {FILE}")
        _check(files[FILE], spec, len(vectors))
        graph = hnswlib.Index(_SPACES[spec.metric], spec.dim)
        try:
            graph.load_index(str(files[FILE]))
        except RuntimeError as error:
            raise corrupt(f"hnswlib cannot read {FILE}: {error}") from error
        return Hnswlib(spec, graph, vectors)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Values of ef."""
        return EFFORTS


def _check(path: Path, spec: IndexSpec, count: int) -> None:
    """The header agrees with spec and vectors: the library takes its sizes and offsets on trust. VssError (CORRUPT)."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise corrupt(f"{FILE} ends after {len(head)} bytes, within its header")
    first, room, points, size, label, vector, top, entry, above, ground, m, _, ef = _HEADER.unpack(head)
    links = 4 * ground + 4
    got = {
        "points": points,
        "dim": (label - vector) / 4,
        "m": m,
        "ef_construction": ef,
        "layout": (first, vector, size - label, above, ground),
    }
    want = {
        "points": count,
        "dim": spec.dim,
        "m": spec.params["m"],
        "ef_construction": max(int(spec.params["ef_construction"]), int(spec.params["m"])),
        "layout": (0, links, 8, m, 2 * m),
    }
    for name, value in want.items():
        if got[name] != value:
            raise corrupt(f"got {name} {got[name]} in {FILE}, wanted {value}")
    least = _HEADER.size + points * size
    if room != max(1, points) or (points and not (0 <= top < 64 and entry < points)):
        raise corrupt(f"got room {room}, top level {top} and entry point {entry} in {FILE} of {points} points")
    if path.stat().st_size < least:
        raise corrupt(f"{FILE} has {path.stat().st_size} bytes, wanted at least {least}")
