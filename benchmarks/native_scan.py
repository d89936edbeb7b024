"""The engine: scans of scattered rows and filtered walks beside unfiltered searches, the cost of a call, two threads.

    python -m benchmarks.native_scan [vectors.npy] [--rows 6600]

One thread. The default data is clustered-128 with 100,000 points; a `.npy` is taken under Cosine. Queries are 500 rows
that were held out, asked one at a time. Unfiltered searches, the engine's own and raw hnswlib's (M=16,
efConstruction=200), have the least width whose recall@10 reaches .95. Five interleaved repetitions; one JSON line a
figure, a call's microseconds. "call" is a search of an index of one point less one without a query; "batches" of 64
queries are asked by one thread, and by two at once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from api.bench.report import Report, ratios, rounds, spread
from api.bench.shapes import SHAPES
from indexers.native import _kernel
from indexers.native.builder import EFFORTS, NativeBuilder
from indexers.native.index import Native
from indexers.raw.hnswlib import RawHnswlib
from indexers.raw.library import RawIndex
from vss.distance import exact_search
from vss.recall import recall_at
from vss.types import Mask, Metric, Rows, Vectors, no_progress
from vss.vectors import as_vectors

QUERIES, K, TARGET, REPETITIONS = 500, 10, 0.95, 5
BATCH = 64


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=6_600)
    parser.add_argument("--n", type=int, default=100_000)
    given = parser.parse_args()
    if given.vectors:
        metric, raw = Metric.COSINE, np.load(given.vectors, mmap_mode="r")
        everything = as_vectors(np.ascontiguousarray(raw, dtype=np.float32), raw.shape[1], metric)
    else:
        metric, everything = Metric.EUCLID, SHAPES["clustered-128"].draw(given.n + QUERIES, 7)
    random = np.random.default_rng(3)
    order = random.permutation(len(everything))
    queries = np.ascontiguousarray(everything[order[:QUERIES]])
    vectors = np.ascontiguousarray(everything[np.sort(order[QUERIES:])])
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        index = _built(vectors, metric, Path(folder))
        single = _built(vectors[:1], metric, Path(folder) / "one")
        width = next(one for one in EFFORTS if _recall(index, queries, vectors, metric, None, one) >= TARGET)
        raw_index = _raw(vectors, metric, Path(folder) / "hnswlib")
        truth = exact_search(queries, vectors, K, metric, None).rows
        raw_width = next(one for one in range(16, 2048, 4) if _raw_recall(raw_index, queries, truth, one) >= TARGET)
        wide = {share: random.random(len(vectors)) < share for share in (0.5, 0.8)}
        narrow: Mask = np.zeros(len(vectors), np.bool_)
        narrow[random.choice(len(vectors), given.rows, replace=False)] = True
        searcher = _opened(index)
        listed: NDArray[np.int32] = np.flatnonzero(narrow).astype(np.int32)
        none = queries[:0]
        cases: dict[str, Callable[[], float]] = {
            "raw hnswlib": lambda: _each(queries, lambda query: raw_index.rows(query, K)),
            "search": lambda: _each(queries, lambda query: index.search(query, K, effort=width)),
            "batches, one thread": lambda: _batches(index, queries, width, pool, 1),
            "batches, two threads": lambda: _batches(index, queries, width, pool, 2),
            f"scan of {given.rows} rows": lambda: _each(queries, lambda query: searcher.scan(query, K, 40, listed)),
            f"mask of {given.rows} rows": lambda: _each(queries, lambda query: index.search(query, K, allow=narrow)),
            "mask of 50%": lambda: _each(queries, lambda query: index.search(query, K, allow=wide[0.5], effort=width)),
            "mask of 80%": lambda: _each(queries, lambda query: index.search(query, K, allow=wide[0.8], effort=width)),
            "call": lambda: (
                _each(queries, lambda query: single.search(query, K, effort=1))
                - _each(queries, lambda query: single.search(none, K, effort=1))
            ),
            "call of nothing": lambda: _each(queries, lambda query: single.search(none, K, effort=1)),
        }
        recall = {
            "raw hnswlib": _raw_recall(raw_index, queries, truth, raw_width),
            "search": _recall(index, queries, vectors, metric, None, width),
            f"mask of {given.rows} rows": _recall(index, queries, vectors, metric, narrow, width),
            "mask of 50%": _recall(index, queries, vectors, metric, wide[0.5], width),
            "mask of 80%": _recall(index, queries, vectors, metric, wide[0.8], width),
        }
        found = searcher.scan(queries, K, 40, listed)[0]
        recall[f"scan of {given.rows} rows"] = recall_at(found, exact_search(queries, vectors, K, metric, narrow).rows)
        seconds = rounds(cases, REPETITIONS)
        with Report("native_scan", seed=3) as report:
            for name, values in seconds.items():
                report.write(
                    name,
                    data=str(given.vectors or f"clustered-128 {given.n}"),
                    width=raw_width if name == "raw hnswlib" else width,
                    microseconds=spread([value * 1e6 for value in values]),
                    over_search=ratios(values, seconds["search"]),
                    over_hnswlib=ratios(values, seconds["raw hnswlib"]),
                    recall=recall.get(name),
                )


def _built(vectors: Vectors, metric: Metric, folder: Path) -> Native:
    folder.mkdir(exist_ok=True)
    out = folder / "index"
    out.mkdir()
    builder = NativeBuilder()
    spec = builder.spec(metric, vectors.shape[1], {})
    builder.build(vectors, spec, out, threads=len(os.sched_getaffinity(0)), progress=no_progress)
    return builder.open({path.name: path for path in out.iterdir()}, spec, vectors)


def _opened(index: Native) -> _kernel.Searcher:
    assert index._searcher is not None
    return index._searcher


def _recall(index: Native, queries: Vectors, vectors: Vectors, metric: Metric, allow: Mask | None, width: int) -> float:
    truth = exact_search(queries, vectors, K, metric, allow).rows
    return recall_at(index.search(queries, K, allow=allow, effort=width).rows, truth)


def _raw(vectors: Vectors, metric: Metric, folder: Path) -> RawIndex:
    folder.mkdir()
    library = RawHnswlib()
    library.build(vectors, metric, folder, threads=len(os.sched_getaffinity(0)), progress=no_progress)
    return library.open(folder, metric, vectors.shape[1])


def _raw_recall(index: RawIndex, queries: Vectors, truth: Rows, width: int) -> float:
    index.effort(width)
    return recall_at(index.rows(queries, K).astype(np.int64), truth)


def _batches(index: Native, queries: Vectors, width: int, pool: ThreadPoolExecutor, threads: int) -> float:
    """Seconds of one query, where each thread asks all queries several times in batches."""

    def ask(_: int) -> None:
        for _ in range(40):
            for start in range(0, len(queries), BATCH):
                index.search(queries[start : start + BATCH], K, effort=width)

    began = time.perf_counter()
    for _ in pool.map(ask, range(threads)):
        pass
    return (time.perf_counter() - began) / (40 * threads * len(queries))


def _each(queries: Vectors, ask: Callable[[Vectors], object]) -> float:
    """Median seconds of one query."""
    taken = []
    for row in range(max(len(queries), 1)):
        query = queries[row : row + 1]
        begin = time.perf_counter()
        ask(query)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
