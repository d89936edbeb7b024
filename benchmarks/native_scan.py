"""The engine's scan of scattered rows and its filtered walk beside its unfiltered search, and the cost of a call.

    python -m benchmarks.native_scan [vectors.npy] [--rows 6600]

One thread. The default data is clustered-128 with 100,000 points; a `.npy` is taken under Cosine. Queries are 500 rows
that were held out, asked one at a time. The unfiltered search has the least width whose recall@10 reaches .95. Five
interleaved repetitions; one JSON line a figure. "call" is a search of an index of one point less one without a query.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from api.bench.report import Report, ratios, rounds, spread
from api.bench.shapes import SHAPES
from indexers.native import _kernel
from indexers.native.builder import EFFORTS, NativeBuilder
from indexers.native.index import Native
from vss.distance import exact_search
from vss.recall import recall_at
from vss.types import Mask, Metric, Rows, Vectors, no_progress
from vss.vectors import as_vectors

QUERIES, K, TARGET, REPETITIONS = 500, 10, 0.95, 5


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
    with tempfile.TemporaryDirectory() as folder:
        index = _built(vectors, metric, Path(folder))
        single = _built(vectors[:1], metric, Path(folder) / "one")
        width = next(one for one in EFFORTS if _recall(index, queries, vectors, metric, None, one) >= TARGET)
        wide = {share: random.random(len(vectors)) < share for share in (0.5, 0.8)}
        narrow: Mask = np.zeros(len(vectors), np.bool_)
        narrow[random.choice(len(vectors), given.rows, replace=False)] = True
        searcher = _opened(index)
        listed: Rows = np.flatnonzero(narrow).astype(np.int32)
        none = queries[:0]
        cases: dict[str, Callable[[], float]] = {
            "search": lambda: _each(queries, lambda query: index.search(query, K, effort=width)),
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
            "search": _recall(index, queries, vectors, metric, None, width),
            f"mask of {given.rows} rows": _recall(index, queries, vectors, metric, narrow, width),
            "mask of 50%": _recall(index, queries, vectors, metric, wide[0.5], width),
            "mask of 80%": _recall(index, queries, vectors, metric, wide[0.8], width),
        }
        found = searcher.scan(queries, K, 40, listed)[0]
        truth = exact_search(queries, vectors, K, metric, narrow).rows
        recall[f"scan of {given.rows} rows"] = recall_at(found, truth)
        seconds = rounds(cases, REPETITIONS)
        with Report("native_scan", seed=3) as report:
            for name, values in seconds.items():
                report.write(
                    name,
                    data=str(given.vectors or f"clustered-128 {given.n}"),
                    width=width,
                    microseconds=spread([value * 1e6 for value in values]),
                    over_search=ratios(values, seconds["search"]),
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
    assert index._open is not None
    return index._open[0]


def _recall(index: Native, queries: Vectors, vectors: Vectors, metric: Metric, allow: Mask | None, width: int) -> float:
    truth = exact_search(queries, vectors, K, metric, allow).rows
    return recall_at(index.search(queries, K, allow=allow, effort=width).rows, truth)


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
