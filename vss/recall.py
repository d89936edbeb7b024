"""Recall: how many of the true neighbours an index finds, and what search effort that takes.

recall_at        by rows: what part of the true rows was found
recall_by_score  by scores: a row as good as the k-th true one counts, so equal points are not misses
calibrate        the curve (effort, recall, microseconds) of one index over its own vectors
scan_ns          what a scan by an index takes for a row
effort_for       the least effort on a curve that reaches a recall
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vss.distance import exact_search
from vss.protocols import Index, Scanner
from vss.types import Hits, Metric, Rows, Scores, Vectors

TOLERANCE = 1e-5
"""Scores closer than this part of the k-th true score are equal: float32 sums differ with their order."""


class CurvePoint(NamedTuple):
    """One measured effort: recall 0 to 1, microseconds (median) of a single query on one calling thread."""

    effort: int
    recall: float
    microseconds: float


def recall_at(found: Rows, true: Rows) -> float:
    """The mean over queries of the part of `(q, k)` true rows that stand among `(q, j)` found ones.

    A true row of -1 does not exist and does not count; 1.0 when no true row exists at all.
    """
    exists = true >= 0
    hit = (found[:, None, :] == true[:, :, None]).any(axis=2) & exists
    return _mean_part(hit.sum(axis=1), exists.sum(axis=1))


def recall_by_score(found: Scores, true: Scores, tolerance: float = TOLERANCE) -> float:
    """The mean part of `(q, j)` found scores that reach the worst of the `(q, k)` true scores of their query.

    As ann-benchmarks counts: any row as near as the k-th true neighbour is a neighbour. -inf does not exist.
    tolerance: relative to the worst true score.
    """
    exists = true > -np.inf
    worst = np.where(exists, true, np.inf).min(axis=1, initial=np.inf)
    worst = worst - tolerance * np.abs(worst, where=np.isfinite(worst), out=np.zeros_like(worst))
    reached = (found >= worst[:, None]).sum(axis=1)
    return _mean_part(np.minimum(reached, exists.sum(axis=1)), exists.sum(axis=1))


def calibrate(
    index: Index,
    vectors: Vectors,
    metric: Metric,
    *,
    k: int = 10,
    efforts: Sequence[int],
    queries: Vectors | None = None,
    sample: int = 500,
    seed: int = 0,
) -> list[CurvePoint]:
    """What recall@k each effort reaches, and in what time, over an index of these `(n, dim)` vectors.

    queries: `(q, dim)` that are not in the index. None takes `sample` of its own rows, each taken out of its answer.
    That flatters a graph, which holds links from the row to its neighbours: on 20,000 points at effort 64 such a curve
    said 0.999 and 0.91 (clustered 128-d, hubs 256-d) where held-out queries found 0.994 and 0.86.
    Efforts are measured in rising order up to the first with recall 1. No efforts (an exact index) gives one point
    of effort 0.
    """
    if queries is None:
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), min(sample, len(vectors)), replace=False))
        queries = np.ascontiguousarray(vectors[rows])
    else:
        rows = np.full(len(queries), -2, dtype=np.int64)  # no row of the index: `without` drops the last hit
    truth = without(exact_search(queries, vectors, k + 1, metric), rows)
    curve: list[CurvePoint] = []
    for effort in sorted(efforts) or [0]:
        answers, seconds = _answers(index, queries, k + 1, effort)
        recall = recall_by_score(without(answers, rows).scores, truth.scores)
        curve.append(CurvePoint(effort, recall, seconds * 1e6))
        if recall >= 1.0:
            break
    return curve


def scan_ns(index: Scanner, vectors: Vectors, *, rows: int = 5_000, queries: int = 50, seed: int = 0) -> float:
    """Nanoseconds (median) that scanning takes for each of `rows` scattered rows of `(n, dim)` vectors; 0 for none."""
    if not len(vectors):
        return 0.0
    random = np.random.default_rng(seed)
    listed = np.sort(random.choice(len(vectors), min(rows, len(vectors)), replace=False)).astype(np.int32)
    seconds = []
    for row in random.integers(0, len(vectors), queries).tolist():
        query = np.array(vectors[row : row + 1])
        begin = time.perf_counter()
        index.scan(query, 10, listed)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)) / len(listed) * 1e9


def effort_for(curve: Sequence[CurvePoint], recall: float) -> int | None:
    """The least effort whose measured recall reaches `recall`; None when none does, and only an exact scan will."""
    return min((point.effort for point in curve if point.recall >= recall), default=None)


def without(hits: Hits, rows: Rows) -> Hits:
    """`(q, k - 1)` hits: each query's own row `(q,)` taken out, or the last hit where it is not among them."""
    keep = hits.rows != rows[:, None]
    keep[keep.all(axis=1), -1] = False
    shape = (len(hits.rows), hits.rows.shape[1] - 1)
    return Hits(hits.rows[keep].reshape(shape), hits.scores[keep].reshape(shape))


def _answers(index: Index, queries: Vectors, k: int, effort: int) -> tuple[Hits, float]:
    """The hits of each query asked alone, as it is served, and the median seconds of one."""
    found: list[Hits] = []
    seconds: list[float] = []
    for row in range(len(queries)):
        begin = time.perf_counter()
        found.append(index.search(queries[row : row + 1], k, effort=effort))
        seconds.append(time.perf_counter() - begin)
    if not found:
        return Hits(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32)), 0.0
    hits = Hits(np.concatenate([hit.rows for hit in found]), np.concatenate([hit.scores for hit in found]))
    return hits, float(np.median(seconds))


def _mean_part(counted: Rows, wanted: Rows) -> float:
    asked = wanted > 0
    return float(np.mean(counted[asked] / wanted[asked])) if asked.any() else 1.0
