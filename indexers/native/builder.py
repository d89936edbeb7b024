"""The write half: vectors become codes and a graph, every file a plain `.npy`.

codes.npy      (n, stride) uint8 or float16: `quantise`
scales.npy     (4,) float64: codes per unit, the part clipped, the squared error, the sample's recall
centre.npy     (dim,) float32, where one is taken off
extra.npy      (n,) float32, where a row's score needs more than its code
graph.npy      (n, degree) int32 neighbours, -1 behind the last one of a row
entries.npy    (e,) int32 rows that walks start from
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.index import Native
from indexers.native.quantise import Quantiser, choose, stride_of
from indexers.params import checked, corrupt
from vss.errors import invalid
from vss.protocols import IndexSpec
from vss.storage.npy import NpyWriter, map_npy, save_npy
from vss.types import Metric, Progress, Vectors

MEASURES = {Metric.COSINE: "dot", Metric.DOT: "dot", Metric.EUCLID: "euclid"}

EFFORTS = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

BATCH_PART = 50
"""A batch is at most this part of what is inserted already: its rows do not see each other."""

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
        codes, extra = _write_codes(vectors, quantiser, spec, out)
        measured = (quantiser.scale, quantiser.clipped, quantiser.error, quantiser.recall)
        save_npy(out / "scales.npy", np.array(measured, np.float64))
        if quantiser.centre is not None:
            save_npy(out / "centre.npy", quantiser.centre)
        if quantiser.extra:
            save_npy(out / "extra.npy", extra)
        count, degree = len(vectors), int(spec.params["degree"])
        if count == 0:
            save_npy(out / "graph.npy", np.empty((0, degree), np.int32))
            save_npy(out / "entries.npy", np.empty(0, np.int32))
            return
        entry = _entry(vectors)
        graph = _link(codes, quantiser, spec, entry, vectors, threads, progress)
        save_npy(out / "graph.npy", graph)
        save_npy(out / "entries.npy", np.array([entry], np.int32))

    def open(self, files: Mapping[str, Path], spec: IndexSpec, vectors: Vectors) -> Native:
        """As `IndexBuilder.open`. VssError (CORRUPT) when the files are not those of such an index."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
            raise corrupt(f"got vectors of shape {vectors.shape}, wanted (n, {spec.dim})")
        arrays: dict[str, NDArray[Any]] = {}
        for name in ("codes", "scales", "graph", "entries", "centre", "extra"):
            path = files.get(f"{name}.npy")
            if path is not None:
                try:
                    arrays[name] = map_npy(path)
                except (ValueError, OSError) as error:
                    raise corrupt(f"{name}.npy cannot be read") from error
            elif name not in ("centre", "extra"):
                raise corrupt(f"got the files {sorted(files)}, wanted {name}.npy")
        if arrays["scales"].shape != (4,) or arrays["scales"].dtype != np.float64:
            raise corrupt("scales.npy is not four float64")
        if arrays["codes"].shape != (len(vectors), stride_of(spec.dim)):
            raise corrupt(f"got codes of shape {arrays['codes'].shape}, wanted {(len(vectors), stride_of(spec.dim))}")
        if arrays["graph"].ndim != 2 or arrays["graph"].shape[1] != spec.params["degree"]:
            raise corrupt(f"got a graph of shape {arrays['graph'].shape}, wanted degree {spec.params['degree']}")
        try:
            searcher = _kernel.Searcher(
                MEASURES[spec.metric],
                arrays["codes"],
                float(arrays["scales"][0]),
                arrays.get("centre"),
                arrays.get("extra"),
                arrays["graph"],
                arrays["entries"],
                vectors,
            )
        except (ValueError, TypeError) as error:
            raise corrupt(f"the engine refuses the index: {error}") from error
        return Native(spec, searcher, vectors)

    def efforts(self, spec: IndexSpec) -> tuple[int, ...]:
        """Widths of the beam."""
        return EFFORTS


def degree_for(dim: int) -> int:
    """Links that let codes and graph stay below half of what hnswlib takes at M 16 (4 dim + 140 bytes a row)."""
    return min(64, max(32, (dim + 66) // 4 // 16 * 16))


def _write_codes(
    vectors: Vectors, quantiser: Quantiser, spec: IndexSpec, out: Path
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    dtype = np.uint8 if quantiser.form == "u8" else np.float16
    writer = NpyWriter(out / "codes.npy", dtype, (stride_of(spec.dim),))
    extras = [np.empty(0, np.float32)]
    for codes, extra in quantiser.blocks(vectors):
        writer.append(codes)
        extras.append(extra)
    writer.close()
    return map_npy(out / "codes.npy"), np.concatenate(extras)


def _entry(vectors: Vectors) -> int:
    """The row nearest to the mean of a sample of rows, among them."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), 8_192)).astype(np.int64)
    sample = vectors[rows]
    away = sample - sample.mean(axis=0)
    return int(rows[np.argmin(np.einsum("nd,nd->n", away, away))])


def _link(
    codes: NDArray[Any],
    quantiser: Quantiser,
    spec: IndexSpec,
    entry: int,
    vectors: Vectors,
    threads: int,
    progress: Progress,
) -> NDArray[np.int32]:
    """`(n, degree)` neighbours of every row."""
    count = len(vectors)
    squares = np.empty(count, np.float32)
    for start in range(0, count, 65_536):
        block = np.asarray(vectors[start : start + 65_536])
        if quantiser.centre is not None:
            block = block - quantiser.centre
        squares[start : start + 65_536] = np.einsum("nd,nd->n", block, block)
    alpha = float(spec.params["alpha"])
    own: NDArray[np.float32] | None
    if spec.metric is Metric.DOT:
        # Near is what has a large product, whatever its length; there alpha has no meaning.
        own, squares, alpha = None, np.zeros(count, np.float32), 1.0
    else:
        own = (squares * np.float32(-0.5)).astype(np.float32)
    builder = _kernel.Builder(
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
    # Neighbouring rows are often alike (they come sorted, or from one source), and the rows of a batch do not see each
    # other.
    order = np.random.default_rng(0).permutation(count).astype(np.int32)
    order = np.concatenate((np.array([entry], np.int32), order[order != entry]))
    start = 0
    while start < count:
        end = min(count, start + max(1, min(start, count // BATCH_PART)))
        builder.insert(order[start:end], threads)
        progress(end - start)
        start = end
    return builder.finish(threads)
