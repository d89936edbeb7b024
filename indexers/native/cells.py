"""Rows divided into cells, each around a centre (k-means): where a filter leaves a part of many rows, the nearest cells
hold the best of them, and the others need not be scored.

centres.npy    (c, dim) float32
cells.npy      (n,) uint16, the cell of each row
nearness.npy   (1 + s, 1 + p) float64: first 0 and p rising recalls@10, then, rising, a number of matching rows, and how
               many of those in the nearest cells were looked at for each recall, when chance chose which rows match
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.quantise import Quantiser
from indexers.params import corrupt
from vss.distance import exact_search
from vss.storage.npy import save_npy
from vss.types import Metric, Rows, Scores, Vectors

FILES = ("centres", "cells", "nearness")

LEAST_ROWS = 10_000
"""Smaller indexes have no cells: their matching rows are scanned in less time than looking for cells takes."""

CELLS_PER_ROOT = 1.5
"""Cells over the square root of the rows. Twice as many cost twice the build and a fifth fewer rows to look at."""

MOST_CELLS = 65_535
SAMPLE_PER_CELL = 32
ROUNDS = 5
BLOCK_FLOATS = 1 << 22

SHARES = (0.01, 0.05, 0.25)
"""Parts of the rows that match, where that is measured."""

QUERIES = 100
NEAREST = 10
RECALLS = (0.9, 0.95, 0.98, 0.99, 0.995)


def write_cells(vectors: Vectors, metric: Metric, out: Path, seed: int = 0) -> None:
    """Divide `(n, dim)` vectors; nothing is written where they are few."""
    if len(vectors) < LEAST_ROWS:
        return
    random = np.random.default_rng(seed)
    centres = _centres(vectors, metric, random)
    cells = np.concatenate([_of(block, centres, metric) for block in _blocks(vectors, len(centres))]).astype(np.uint16)
    save_npy(out / "centres.npy", centres)
    save_npy(out / "cells.npy", cells)
    save_npy(out / "nearness.npy", _nearness(vectors, centres, cells, metric, random))


def _centres(vectors: Vectors, metric: Metric, random: np.random.Generator) -> Vectors:
    """Lloyd's rounds over a sample. Of unit length under Cosine, where products are compared."""
    count = min(MOST_CELLS, round(CELLS_PER_ROOT * math.sqrt(len(vectors))))
    rows = np.unique(random.integers(0, len(vectors), SAMPLE_PER_CELL * count))
    sample = np.ascontiguousarray(vectors[rows])
    centres = sample[random.permutation(len(sample))[:count]]
    for _ in range(ROUNDS):
        cells = np.concatenate([_of(block, centres, metric) for block in _blocks(sample, count)])
        order = np.argsort(cells, kind="stable")
        sizes = np.bincount(cells, minlength=count)
        full = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[full]
        centres = centres.copy()  # a cell that has become empty keeps its centre
        centres[full] = np.add.reduceat(sample[order], starts, axis=0) / sizes[full, None].astype(np.float32)
        if metric is Metric.COSINE:
            lengths = np.linalg.norm(centres, axis=1, keepdims=True)
            centres = (centres / np.maximum(lengths, np.float32(1e-12))).astype(np.float32)
    return centres


def _blocks(vectors: Vectors, cells: int) -> list[Vectors]:
    step = max(1, BLOCK_FLOATS // cells)
    return [vectors[start : start + step] for start in range(0, len(vectors), step)]


def _of(block: Vectors, centres: Vectors, metric: Metric) -> Rows:
    """The nearest centre of each vector, by distance under Dot too: a cell is of what lies together."""
    near: Rows = np.argmax(_scores(block, centres, by_distance=metric is not Metric.COSINE), axis=1)
    return near


def _scores(queries: Vectors, centres: Vectors, *, by_distance: bool) -> Scores:
    found: Scores = queries @ centres.T
    if by_distance:
        found -= np.einsum("cd,cd->c", centres, centres) * np.float32(0.5)
    return found


def _nearness(
    vectors: Vectors, centres: Vectors, cells: NDArray[np.uint16], metric: Metric, random: np.random.Generator
) -> NDArray[np.float64]:
    rows = random.permutation(len(vectors))
    queries = np.ascontiguousarray(vectors[np.sort(rows[:QUERIES])])
    order = np.argsort(-_scores(queries, centres, by_distance=metric is Metric.EUCLID), axis=1)
    table = [[0.0, *RECALLS]]
    for share in SHARES:
        left = np.sort(rows[QUERIES:][: round(share * len(vectors))])
        sizes = np.bincount(cells[left], minlength=len(centres))
        true = left[exact_search(queries, np.ascontiguousarray(vectors[left]), NEAREST, metric).rows]
        needed = []
        for near, best in zip(order, true, strict=True):
            before = np.empty(len(centres), np.int64)
            before[near] = np.cumsum(sizes[near]) - sizes[near]
            needed.append(before[cells[best]] + 1)
        table.append([len(left), *np.quantile(np.concatenate(needed), RECALLS).tolist()])
    return np.maximum.accumulate(np.asarray(table, np.float64), axis=0)  # fewer for more rows would be chance


class Nearness:
    """How many rows of the nearest cells are looked at for a recall."""

    def __init__(self, table: NDArray[np.float64], cells: int) -> None:
        """table: as the file has it. Raises ValueError."""
        self.cells = cells
        recalls, matching, looked = table[0, 1:], table[1:, 0], table[1:, 1:]
        if not (looked.size and np.isfinite(table).all() and (looked >= 1).all() and (matching >= 1).all()):
            raise ValueError(f"got nearness of shape {table.shape}, wanted numbers of rows")
        if (np.diff(recalls) <= 0).any() or (np.diff(matching) <= 0).any():
            raise ValueError("got nearness that does not rise")
        self._recalls, self._matching = recalls.tolist(), np.log(matching).tolist()
        self._looked = np.log(looked).tolist()

    def rows(self, recall: float, matching: int, k: int) -> int | None:
        """Between measured numbers of matching rows as a power of them, below as their root, above nearly in
        proportion; None for a higher recall than was measured."""
        if recall > self._recalls[-1] or matching < 1:
            return None
        wanted = math.log(matching)
        within = min(max(wanted, self._matching[0]), self._matching[-1])
        at = _between(within, self._matching, [_between(recall, self._recalls, one) for one in self._looked])
        beyond = (wanted - within) * (0.75 if wanted > within else 0.5)
        return math.ceil(math.exp(at + beyond) * max(1.0, k / NEAREST))


def _between(at: float, places: Sequence[float], values: Sequence[float]) -> float:
    """`np.interp` of one number, in a tenth of its time."""
    after = bisect_right(places, at)
    if after == 0 or after == len(places):
        return values[max(after - 1, 0)]
    low, high = places[after - 1], places[after]
    return values[after - 1] + (at - low) / (high - low) * (values[after] - values[after - 1])


def divide(
    searcher: _kernel.Searcher, arrays: Mapping[str, NDArray[Any]], quantiser: Quantiser, count: int, dim: int
) -> Nearness:
    """Give an opened index the cells of its `(count, dim)` vectors. VssError (CORRUPT)."""
    if not all(name in arrays for name in FILES):
        raise corrupt(f"got the arrays {sorted(arrays)}, wanted all of {', '.join(FILES)} or none")
    centres, cells, nearness = (arrays[name] for name in FILES)
    if centres.ndim != 2 or centres.shape[1] != dim or centres.dtype != np.float32 or not np.isfinite(centres).all():
        raise corrupt(f"got centres of {centres.dtype} and shape {centres.shape}, wanted finite ones of (c, {dim})")
    if cells.shape != (count,) or cells.dtype != np.uint16:
        raise corrupt(f"got cells of {cells.dtype} and shape {cells.shape}, wanted one for each of {count} rows")
    if nearness.ndim != 2 or nearness.dtype != np.float64:
        raise corrupt(f"got nearness of {nearness.dtype} and shape {nearness.shape}, wanted a table of float64")
    codes, extra = quantiser.encode(np.asarray(centres))
    try:
        searcher.divide(codes, extra if quantiser.extra else None, cells)
        return Nearness(np.asarray(nearness), len(centres))
    except (ValueError, TypeError) as error:
        raise corrupt(f"the engine refuses the cells: {error}") from error
