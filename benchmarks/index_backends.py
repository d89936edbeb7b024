"""Microseconds of a single query of each index backend, at the least effort that reaches a recall; raw hnswlib beside.

    python benchmarks/index_backends.py [--n 50000] [--dim 128] [--recall 0.95] [--vectors FILE.npy] [--metric Euclid]

Each index is built once; its effort is the least of a list whose recall@10 over held-out queries reaches what is asked.
Then the backends take turns, repetition by repetition, each answering the same queries one by one on one thread. A JSON
line has the median and the spread over repetitions of the median query, and the load of the machine. Raw hnswlib is
the library called directly, with the same parameters as the backend; without it both are left out.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import faiss  # noqa: E402
import numpy as np  # noqa: E402

from indexers.registry import builder  # noqa: E402
from tests.conformance.data import clustered  # noqa: E402
from vss.distance import exact_search  # noqa: E402
from vss.errors import VssError  # noqa: E402
from vss.recall import recall_at  # noqa: E402
from vss.types import Metric, Rows, Vectors, no_progress  # noqa: E402
from vss.vectors import as_vectors  # noqa: E402

K, QUERIES = 10, 500
GRAPH_EFFORTS = (10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 192, 256, 512)
LIST_EFFORTS = (4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 192, 256, 512)

CASES: tuple[tuple[str, dict[str, int | float | str]], ...] = (
    ("hnswlib", {}),
    ("faiss_hnsw", {"storage": "float32"}),
    ("faiss_hnsw", {"storage": "fp16"}),
    ("faiss_hnsw", {"storage": "sq8"}),
    ("faiss_ivf", {"storage": "sq8"}),
    ("faiss_ivf", {"storage": "pq"}),
    ("faiss_ivf", {"storage": "rabitq"}),
    ("flat", {}),
)

Ask = Callable[[Vectors, int], Rows]


class Case(NamedTuple):
    """One index to time: `ask(queries, effort)` gives rows."""

    name: str
    params: dict[str, int | float | str]
    ask: Ask
    efforts: tuple[int, ...]
    build_seconds: float
    file_bytes: int


def main() -> None:
    """Build all, find each one's effort, then time them in turn and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--vectors", type=Path, help="real vectors, (n, dim) float32; the last 500 are queries")
    parser.add_argument("--metric", type=Metric, choices=list(Metric), default=Metric.EUCLID)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="for building")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()

    data = clustered(asked.n + QUERIES, asked.dim, asked.seed) if asked.vectors is None else np.load(asked.vectors)
    data = as_vectors(data, data.shape[1], asked.metric)
    vectors, queries = np.ascontiguousarray(data[:-QUERIES]), np.ascontiguousarray(data[-QUERIES:])
    true = exact_search(queries, vectors, K, asked.metric).rows
    cases: list[Case] = []
    for kind, params in CASES:
        try:
            cases += built(kind, params, vectors, asked.metric, asked.threads)
        except VssError as error:
            print(f"{kind} is left out: {error}", file=sys.stderr)
    settled = [settle(case, queries, true, asked.recall) for case in cases]
    times = np.array(
        [
            [median_us(case.ask, queries, effort) for case, (effort, _) in zip(cases, settled, strict=True)]
            for _ in range(asked.repetitions + 1)
        ][1:]
    )
    for place, (case, (effort, recall)) in enumerate(zip(cases, settled, strict=True)):
        line = {
            "case": case.name,
            "params": case.params,
            "effort": effort,
            "recall_at_10": round(recall, 4),
            "query_us": {
                "median": round(float(np.median(times[:, place])), 1),
                "min": round(float(times[:, place].min()), 1),
                "max": round(float(times[:, place].max()), 1),
            },
            "build_seconds": round(case.build_seconds, 1),
            "build_threads": asked.threads,
            "file_bytes_per_point": round(case.file_bytes / len(vectors), 1),
            "data": str(asked.vectors.name) if asked.vectors else "clustered",
            "n": len(vectors),
            "dim": data.shape[1],
            "metric": str(asked.metric),
            "k": K,
            "queries": QUERIES,
            "seed": asked.seed,
            "repetitions": asked.repetitions,
            "threads": 1,
            "load": [round(load, 1) for load in os.getloadavg()],
            "machine": f"{platform.machine()} {_processor()}",
            "versions": {"faiss": faiss.__version__, "numpy": np.__version__, "python": platform.python_version()},
        }
        print(json.dumps(line), flush=True)


def built(
    kind: str, params: dict[str, int | float | str], vectors: Vectors, metric: Metric, threads: int
) -> list[Case]:
    """A backend; under hnswlib also the raw library, over the same graph."""
    made = builder(kind)
    spec = made.spec(metric, vectors.shape[1], params)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        made.build(vectors, spec, folder, threads=threads, progress=no_progress)
        seconds = time.perf_counter() - begin
        files = {path.name: path for path in folder.iterdir()}
        size = sum(path.stat().st_size for path in files.values())
        index = made.open(files, spec, vectors)
    efforts = () if kind == "flat" else LIST_EFFORTS if kind == "faiss_ivf" else GRAPH_EFFORTS

    def ask(queries: Vectors, effort: int) -> Rows:
        return index.search(queries, K, effort=effort).rows

    cases = [Case(kind, spec.params, ask, efforts, seconds, size)]
    if kind == "hnswlib":
        graph, _ = index._open  # type: ignore[attr-defined]

        def raw(queries: Vectors, effort: int) -> Rows:
            graph.set_ef(effort)
            rows: Rows = graph.knn_query(queries, K, num_threads=1)[0]
            return rows

        cases.append(Case("hnswlib, raw", spec.params, raw, efforts, seconds, size))
    return cases


def settle(case: Case, queries: Vectors, true: Rows, wanted: float) -> tuple[int, float]:
    """The least effort that reaches the recall, and the recall it has; the largest where none does."""
    effort, recall = 0, 0.0
    for effort in case.efforts or (0,):
        recall = recall_at(case.ask(queries, effort).astype(np.int64), true)
        if recall >= wanted:
            break
    return effort, recall


def median_us(ask: Ask, queries: Vectors, effort: int) -> float:
    """Of the queries asked one by one."""
    taken = np.empty(len(queries))
    for row in range(len(queries)):
        query = queries[row : row + 1]
        begin = time.perf_counter_ns()
        ask(query, effort)
        taken[row] = time.perf_counter_ns() - begin
    return float(np.median(taken)) / 1000


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
