"""What `faiss_hnsw` costs over raw FAISS: microseconds per single query, and the ratio for batches of 64.

    python benchmarks/index_overhead.py [--n 50000] [--dim 128] [--vectors FILE.npy] [--metric Euclid]

Raw FAISS is `index.search(x, k, params=params)` on the same graph with parameters made once. The two are timed in turn,
query by query and batch by batch, on one thread and warm caches (so single queries look faster than they are served,
and the difference stands out); each repetition gives one median, and a JSON line has the median and
spread of the repetitions. Queries are rows held out of the data.
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
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import faiss  # noqa: E402
import numpy as np  # noqa: E402

from indexers.faiss_hnsw import FaissHnswBuilder  # noqa: E402
from indexers.faiss_io import FILE  # noqa: E402
from tests.conformance.data import clustered  # noqa: E402
from vss.distance import exact_search  # noqa: E402
from vss.protocols import Index, IndexSpec  # noqa: E402
from vss.recall import recall_at  # noqa: E402
from vss.types import Metric, Vectors, no_progress  # noqa: E402
from vss.vectors import as_vectors  # noqa: E402

K, EFFORT, BATCH, QUERIES = 10, 64, 64, 1024


def main() -> None:
    """Build once, then print one JSON line for single queries and one for batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--vectors", type=Path, help="real vectors, (n, dim) float32; the last 1,024 are queries")
    parser.add_argument("--metric", type=Metric, choices=list(Metric), default=Metric.EUCLID)
    parser.add_argument("--storage", choices=["float32", "fp16", "sq8"], default="float32")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()

    data = clustered(asked.n + QUERIES, asked.dim, asked.seed) if asked.vectors is None else np.load(asked.vectors)
    data = as_vectors(data, data.shape[1], asked.metric)
    vectors, queries = np.ascontiguousarray(data[:-QUERIES]), np.ascontiguousarray(data[-QUERIES:])
    builder = FaissHnswBuilder()
    spec = builder.spec(asked.metric, data.shape[1], {"storage": asked.storage})
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        builder.build(vectors, spec, Path(folder), threads=2, progress=no_progress)
        seconds = time.perf_counter() - begin
        index = builder.open({FILE: Path(folder) / FILE}, spec, vectors)
    true = exact_search(queries, vectors, K, asked.metric).rows
    shared = {
        "data": str(asked.vectors.name) if asked.vectors else "clustered",
        "n": len(vectors),
        "dim": data.shape[1],
        "metric": str(asked.metric),
        "storage": asked.storage,
        "effort": EFFORT,
        "k": K,
        "recall_at_10": round(recall_at(index.search(queries, K, effort=EFFORT).rows, true), 4),
        "build_seconds": round(seconds, 1),
        "seed": asked.seed,
        "repetitions": asked.repetitions,
        "threads": 1,
        "machine": f"{platform.machine()} {_processor()}",
        "versions": {"faiss": faiss.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    for size in (1, BATCH):
        print(
            json.dumps({"case": f"batch of {size}", **measure(index, spec, queries, size, asked.repetitions), **shared})
        )


def measure(index: Index, spec: IndexSpec, queries: Vectors, size: int, repetitions: int) -> dict[str, Any]:
    """Microseconds per call of ours and of raw FAISS, and their difference and ratio, over `repetitions`."""
    handle, _ = index._open  # type: ignore[attr-defined]
    graph = getattr(handle, "codes", handle)
    params = faiss.SearchParametersHNSW(efSearch=EFFORT)
    batches = [queries[start : start + size] for start in range(0, len(queries), size)]
    calls: list[Callable[[Vectors], object]] = [
        lambda batch: index.search(batch, K, effort=EFFORT),
        lambda batch: graph.search(batch, K, params=params),
    ]
    medians = []
    for repetition in range(repetitions + 1):
        times = np.empty((len(batches), 2))
        for number, batch in enumerate(batches):
            # Whoever comes second finds the vectors in the cache: take turns, and let an untimed call come first.
            calls[1](batch)
            for which in (0, 1) if (number + repetition) % 2 else (1, 0):
                begin = time.perf_counter_ns()
                calls[which](batch)
                times[number, which] = (time.perf_counter_ns() - begin) / 1000
        medians.append(np.median(times, axis=0))
    ours, raw = np.array(medians[1:]).T
    return {
        "ours_us": summary(ours),
        "raw_us": summary(raw),
        "overhead_us": summary(ours - raw),
        "ratio": summary(ours / raw, 4),
    }


def summary(values: Any, digits: int = 1) -> dict[str, float]:
    """Median, least and most."""
    return {
        name: round(float(of(values)), digits) for name, of in (("median", np.median), ("min", np.min), ("max", np.max))
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    main()
