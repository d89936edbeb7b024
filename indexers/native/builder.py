"""The write half: vectors become codes and a graph, every file a plain `.npy`.

codes.npy and what belongs to them: `codes`
graph.npy      (n, degree) int32 neighbours, -1 behind the last one of a row
entries.npy    (e,) int32 rows that walks start from
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.cells import FILES as CELLS
from indexers.native.cells import divide, write_cells
from indexers.native.codes import (
    FILES,
    MAYBE,
    MEASURES,
    kept_blocks,
    quantiser_of,
    read_arrays,
    searcher_of,
    write_codes,
)
from indexers.native.index import Native
from indexers.native.quantise import BLOCK_ROWS, Quantiser, choose, still_serves
from indexers.native.reach import entries_of
from indexers.params import checked, corrupt
from vss.errors import invalid
from vss.protocols import IndexSpec
from vss.storage.npy import save_npy
from vss.types import Metric, Progress, Rows, Vectors

EFFORTS = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)

BATCH_PART = 50
"""A batch is at most this part of what is inserted already: its rows do not see each other."""

LEAST_KEPT = 0.75
"""An index is extended where this part of its rows stays, else it is built anew: with a third of 62,000 x 384 gone, an
extended one found .005 less than a new one, for half of the work."""

LEAST_OLD = 0.5
"""And where those make up this part of the new one: else most of the work is to be done anyway."""

_DEFAULTS: dict[str, int | float | str] = {"degree": 0, "width": 128, "alpha": 1.2}
_RANGES = {"degree": (0, 256), "width": (8, 4096)}


class NativeBuilder:
    """Builds with as many threads as told; the result does not depend on how many they are.

    Holds the codes twice and the graph one and a half times while it builds.
    """

    kind = "native"

    def spec(self, metric: Metric, dim: int, params: Mapping[str, int | float | str]) -> IndexSpec:
        """As `IndexBuilder.spec`.

        degree: links of a row, 8 to 256; 0 (default) takes what the dimension suggests
        width:  8 to 4096, default 128: of the walk that finds a row's neighbours
        alpha:  1 to 2, default 1.2: a link is left out where another leads that many times nearer
        """
        if metric not in MEASURES:
            raise invalid(f"native cannot search under {metric}", field="metric", hint="use the index kind flat")
        given = dict(params)
        alpha = given.pop("alpha", _DEFAULTS["alpha"])
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 1 <= alpha <= 2:
            raise invalid(f"got {alpha!r}, wanted a number from 1 to 2", field="alpha")
        if "degree" in given and given["degree"] in range(1, 8):
            raise invalid(f"got {given['degree']!r}, wanted 0 or a whole number from 8 to 256", field="degree")
        full = checked(self.kind, given, _DEFAULTS, _RANGES, {})
        full["alpha"] = float(alpha)
        full["degree"] = full["degree"] or degree_for(dim)
        return IndexSpec(kind=self.kind, metric=metric, dim=dim, params=full)

    def build(self, vectors: Vectors, spec: IndexSpec, out: Path, *, threads: int, progress: Progress) -> None:
        """As `IndexBuilder.build`."""
        vectors = np.asarray(vectors)
        quantiser = choose(vectors, spec.metric)
        codes = write_codes(quantiser.blocks(vectors), quantiser, spec.dim, out)
        count, degree = len(vectors), int(spec.params["degree"])
        if count == 0:
            save_npy(out / "graph.npy", np.empty((0, degree), np.int32))
            save_npy(out / "entries.npy", np.empty(0, np.int32))
            return
        entry = _entry(vectors)
        builder = _graph_builder(codes, quantiser, spec, entry, vectors)
        order = _shuffled(0, count)
        order = np.concatenate((np.array([entry], np.int32), order[order != entry]))
        _insert(builder, order, count, threads, progress)
        _save_graph(builder.finish(threads), entry, out)
        write_cells(vectors, spec.metric, out)

    def extend(
        self,
        files: Mapping[str, Path],
        spec: IndexSpec,
        kept: Rows,
        vectors: Vectors,
        out: Path,
        *,
        threads: int,
        progress: Progress,
    ) -> None:
        """As `Extender.extend`. VssError (CORRUPT) when the files are not those of such an index.

        Everything is built anew where too few rows stay (`LEAST_KEPT`, `LEAST_OLD`), or their codes would serve the new
        ones badly.
        """
        vectors = np.asarray(vectors)
        arrays = _read(files, spec)
        quantiser, entry = quantiser_of(arrays, spec), _entry_of(arrays)
        before, stay, count = len(arrays["codes"]), len(kept), len(vectors)
        if stay > count or (stay and (kept[0] < 0 or kept[-1] >= before or (np.diff(kept) <= 0).any())):
            raise invalid(f"got {stay} kept rows, wanted rising ones of {before} and no more than {count}")
        few = stay == 0 or stay < LEAST_KEPT * before or stay < LEAST_OLD * count
        if few or not still_serves(quantiser, stay, vectors, spec.metric):
            self.build(vectors, spec, out, threads=threads, progress=progress)
            return
        blocks = chain(kept_blocks(arrays, kept), quantiser.blocks(vectors[stay:]))
        codes = write_codes(blocks, quantiser, spec.dim, out)
        rows = np.full(before, -1, np.int32)
        rows[kept] = np.arange(stay, dtype=np.int32)
        graph = arrays["graph"]
        if rows[entry] < 0:
            # Walks start from another row, which leads where that one led.
            after = int(kept[_entry(vectors[:stay])])
            links = graph[entry][graph[entry] != after]
            graph = graph.copy()
            graph[after] = -1
            graph[after, : len(links)] = links
            entry = after
        builder = _graph_builder(codes, quantiser, spec, int(rows[entry]), vectors)
        try:
            builder.adopt(graph, rows, threads)
        except (ValueError, TypeError) as error:
            raise corrupt(f"the engine refuses the graph: {error}") from error
        progress(stay)
        _insert(builder, _shuffled(stay, count), count, threads, progress)
        _save_graph(builder.finish(threads), int(rows[entry]), out)
        write_cells(vectors, spec.metric, out)

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Native:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the files are not those of such an index."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise corrupt(f"got vectors of shape {vectors.shape}, wanted (n, {spec.dim})")
        arrays = _read(files, spec)
        searcher = searcher_of(spec.metric, arrays, vectors, arrays["graph"])
        divided = any(name in arrays for name in CELLS)
        nearness = divide(searcher, arrays, quantiser_of(arrays, spec), len(vectors), spec.dim) if divided else None
        return Native(spec, searcher, arrays["codes"], nearness)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Widths of the beam."""
        return EFFORTS


def degree_for(dim: int) -> int:
    """Links that let codes and graph stay below half of what hnswlib takes at M 16 (4 dim + 140 bytes a row)."""
    return min(64, max(32, (dim + 66) // 4 // 16 * 16))


def _read(files: Mapping[str, Path], spec: IndexSpec) -> dict[str, NDArray[Any]]:
    arrays = read_arrays(files, (*FILES, "graph", "entries"), (*MAYBE, *CELLS), spec.dim)
    codes, graph = arrays["codes"], arrays["graph"]
    if graph.shape != (len(codes), spec.params["degree"]):
        raise corrupt(f"got a graph of shape {graph.shape}, wanted {(len(codes), spec.params['degree'])}")
    return arrays


def _entry_of(arrays: Mapping[str, NDArray[Any]]) -> int:
    """The row that walks start from; 0 where there is none. VssError (CORRUPT)."""
    entries, count = arrays["entries"], len(arrays["codes"])
    if entries.ndim != 1 or entries.dtype != np.int32 or (count and not len(entries)):
        raise corrupt(f"got entries of {entries.dtype} and shape {entries.shape}")
    if len(entries) and not 0 <= entries[0] < count:
        raise corrupt(f"got the entry {entries[0]} of {count} rows")
    return int(entries[0]) if len(entries) else 0


def _entry(vectors: Vectors) -> int:
    """The row nearest to the mean of a sample of rows, among them."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), 8_192)).astype(np.int64)
    sample = vectors[rows]
    away = sample - sample.mean(axis=0)
    return int(rows[np.argmin(np.einsum("nd,nd->n", away, away))])


def _graph_builder(
    codes: NDArray[Any], quantiser: Quantiser, spec: IndexSpec, entry: int, vectors: Vectors
) -> _kernel.Builder:
    """The graph of these rows, with none inserted yet."""
    count = len(vectors)
    squares = np.zeros(count, np.float32)
    own: NDArray[np.float32] | None = None
    if spec.metric is Metric.DOT:
        alpha = 1.0  # near is what has a large product, whatever its length; there it has no meaning
    else:
        alpha = float(spec.params["alpha"])
        for start in range(0, count, BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            squares[part] = quantiser.squares(vectors[part])
        own = (squares * np.float32(-0.5)).astype(np.float32)
    return _kernel.Builder(
        codes,
        spec.dim,
        quantiser.scale,
        own,
        squares,
        entry,
        int(spec.params["degree"]),
        int(spec.params["width"]),
        alpha,
    )


def _save_graph(graph: NDArray[np.int32], entry: int, out: Path) -> None:
    save_npy(out / "graph.npy", graph)
    save_npy(out / "entries.npy", entries_of(graph, entry))


def _shuffled(start: int, end: int) -> NDArray[np.int32]:
    """The rows from `start` on in the order in which they are inserted.

    Neighbouring rows are often alike (they come sorted, or from one source), and the rows of a batch do not see each
    other.
    """
    order: NDArray[np.int32] = np.random.default_rng(0).permutation(np.arange(start, end, dtype=np.int32))
    return order


def _insert(builder: _kernel.Builder, rows: NDArray[np.int32], count: int, threads: int, progress: Progress) -> None:
    """Insert rows in batches that grow with those before them, so that rows of a new kind find each other."""
    start = 0
    while start < len(rows):
        end = min(len(rows), start + max(1, min(start, count // BATCH_PART)))
        builder.insert(rows[start:end], threads)
        progress(end - start)
        start = end
