"""Exact scoring: the truth that every index is measured against, and the plan for small or narrowly filtered parts.

    scores        every query against every vector
    score_rows    every query against a few rows of its own (re-scoring)
    top_k         the best of a score matrix, ties to the lower row
    exact_search  the three together, block by block

Higher is better for every metric: the inner product under Cosine (vectors arrive normalised) and Dot, minus the
distance (not squared) under Euclid, minus the sum of absolute differences under Manhattan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vss.types import Hits, Mask, Metric, Rows, Scores, Vectors

BLOCK_FLOATS = 1 << 22
"""Floats (16 MiB) in the largest temporary array of a search, whatever the number of vectors."""

CACHE_FLOATS = 1 << 16
"""Floats (256 KiB) in one block of differences, so that it stays in the second-level cache."""

NEAR = 0.01
"""|q|² + |v|² - 2qv has lost too many digits below this part of |q|² + |v|²; such pairs are subtracted."""

GATHER_BELOW = 0.4
"""Part of allowed rows below which copying them out is cheaper than scoring all and masking."""

MARGIN = 8
"""Candidates beyond k that are re-scored, so that rounding in a matrix product does not decide who is k-th."""


def scores(queries: Vectors, vectors: Vectors, metric: Metric) -> Scores:
    """`(q, n)` float32 scores of `(q, dim)` queries against `(n, dim)` vectors; the inputs are never written to.

    Euclid is exact for near and identical vectors too (0.0 for the latter). Needs `q * n` floats and two small blocks.
    """
    if metric is Metric.EUCLID:
        return _euclid_by_product(queries, vectors)
    if metric is Metric.MANHATTAN:
        return _manhattan(queries, vectors)
    return queries @ vectors.T


def score_rows(queries: Vectors, vectors: Vectors, rows: Rows, metric: Metric) -> Scores:
    """`(q, c)` float32 scores of each query against its own `(q, c)` rows; -inf where the row is -1.

    A pair's score does not depend on the other pairs, so a batch answers exactly what its single queries do.
    """
    count, width = rows.shape
    if len(vectors) == 0:
        return np.full((count, width), -np.inf, dtype=np.float32)
    result = np.empty((count, width), dtype=np.float32)
    step = max(1, BLOCK_FLOATS // max(1, width * vectors.shape[1]))
    for start in range(0, count, step):
        part = slice(start, start + step)
        found = vectors.take(rows[part], axis=0, mode="clip")
        asked = queries[part]
        if metric is Metric.COSINE or metric is Metric.DOT:
            np.einsum("qcd,qd->qc", found, asked, out=result[part])
        else:
            np.subtract(found, asked[:, None, :], out=found)
            result[part] = _minus_length(found, metric)
    result[rows < 0] = -np.inf
    return result


def top_k(scores: Scores, k: int) -> Hits:
    """The k best of each row of `(q, n)` scores, the lower row first among equals.

    A score of -inf means "not there". Padded with -1 and -inf to `(q, k)`.
    """
    count, n = scores.shape
    hits = _nothing(count, k)
    take = min(k, n)
    if take == 0:
        return hits
    for query in range(count):
        line = scores[query]
        if take < n:
            rows = np.flatnonzero(line >= np.partition(line, n - take)[n - take])
            line = line[rows]
            order = np.argsort(-line, kind="stable")[:take]
            hits.rows[query, :take] = rows[order]
        else:
            order = np.argsort(-line, kind="stable")
            hits.rows[query, :take] = order
        hits.scores[query, :take] = line[order]
    hits.rows[hits.scores == -np.inf] = -1
    return hits


def best_of(rows: Rows, scores: Scores, k: int) -> Hits:
    """The k best of `(q, c)` candidates, the lower row first among equals; -1 where none is left."""
    hits = _nothing(len(rows), k)
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    line = np.arange(len(rows))[:, None]
    width = order.shape[1]
    hits.rows[:, :width] = rows[line, order]
    hits.scores[:, :width] = scores[line, order]
    return hits


def exact_search(
    queries: Vectors,
    vectors: Vectors,
    k: int,
    metric: Metric,
    allow: Mask | None = None,
    stop: Callable[[], bool] | None = None,
) -> Hits:
    """The k best of the allowed rows, exactly; `Hits` of `(q, k)`, the lower row first among equals.

    allow: `(n,)` rows that may be returned. Few allowed rows are copied out block by block; nothing else is read.
    stop:  asked after each block: once it says so the best of those so far are the answer
    Memory beyond the answer is bounded by a few BLOCK_FLOATS. A batch answers exactly what its single queries do.
    """
    vectors = np.asarray(vectors)  # a np.memmap makes each of its slices pay for being one
    if k == 0 or len(queries) == 0:
        return _nothing(len(queries), k)
    if allow is None and len(queries) * vectors.size <= CACHE_FLOATS:
        # Finding candidates first would take longer than scoring so few as the answer is scored.
        everyone = np.broadcast_to(np.arange(len(vectors)), (len(queries), len(vectors)))
        return best_of(everyone, score_rows(queries, vectors, everyone, metric), k)
    wanted = min(k, len(vectors)) + MARGIN
    best: Hits | None = None
    for rows, start, block, mask in _blocks(vectors, allow, len(queries)):
        found = scores(queries, block, metric)
        if mask is not None:
            np.copyto(found, -np.inf, where=~mask)
        hits = top_k(found, min(wanted, len(block)))
        places = hits.rows if rows is None else rows[hits.rows]
        places = np.where(hits.rows >= 0, places + start, -1)
        best = Hits(places, hits.scores) if best is None else _merged(best, Hits(places, hits.scores), wanted)
        if stop is not None and stop():
            break
    if best is None:
        return _nothing(len(queries), k)
    return best_of(best.rows, score_rows(queries, vectors, best.rows, metric), k)


def _blocks(
    vectors: Vectors, allow: Mask | None, queries: int
) -> Iterator[tuple[Rows | None, int, Vectors, Mask | None]]:
    """Blocks of vectors to score, in rising order of rows.

    Each as (rows or None, start, vectors, mask): row i of a block is `rows[i]`, or `start + i` where rows is None.
    """
    step = max(1, BLOCK_FLOATS // max(1, queries, vectors.shape[1]))
    if allow is not None:
        allowed = np.flatnonzero(allow)
        if len(allowed) < GATHER_BELOW * len(vectors):
            for start in range(0, len(allowed), step):
                rows = allowed[start : start + step]
                yield rows, 0, vectors.take(rows, axis=0, mode="clip"), None
            return
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        yield None, start, vectors[part], None if allow is None else allow[part]


def _merged(first: Hits, second: Hits, k: int) -> Hits:
    return best_of(
        np.concatenate((first.rows, second.rows), axis=1), np.concatenate((first.scores, second.scores), axis=1), k
    )


def _manhattan(queries: Vectors, vectors: Vectors) -> Scores:
    result = np.empty((len(queries), len(vectors)), dtype=np.float32)
    step = min(len(vectors), max(1, CACHE_FLOATS // max(1, vectors.shape[1])))
    differences = np.empty((step, vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(vectors), max(1, step)):
        block = vectors[start : start + step]
        for row, query in enumerate(queries):
            into = np.subtract(block, query, out=differences[: len(block)])
            result[row, start : start + step] = _minus_length(into, Metric.MANHATTAN)
    return result


def _minus_length(differences: NDArray[np.float32], metric: Metric) -> Scores:
    """Minus the length of each of `(..., dim)` differences, which are written over."""
    if metric is Metric.MANHATTAN:
        np.abs(differences, out=differences)
        lengths = np.einsum("...d->...", differences)
    else:
        lengths = np.sqrt(np.einsum("...d,...d->...", differences, differences))
    minus: Scores = np.float32(0) - lengths
    return minus


def _euclid_by_product(queries: Vectors, vectors: Vectors) -> Scores:
    sums = np.add.outer(np.einsum("qd,qd->q", queries, queries), np.einsum("nd,nd->n", vectors, vectors))
    squares = queries @ vectors.T
    squares *= -2
    squares += sums
    sums *= NEAR
    near = squares <= sums
    result: Scores = np.float32(0) - np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
    if near.any():
        at, rows = np.nonzero(near)
        step = max(1, CACHE_FLOATS // max(1, vectors.shape[1]))
        for start in range(0, len(at), step):
            part = slice(start, start + step)
            result[at[part], rows[part]] = _minus_length(queries[at[part]] - vectors[rows[part]], Metric.EUCLID)
    return result


def _nothing(count: int, k: int) -> Hits:
    return Hits(np.full((count, k), -1, dtype=np.int64), np.full((count, k), -np.inf, dtype=np.float32))
