"""Maximal marginal relevance: a page of points that are good and unlike each other.

J. Carbonell and J. Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing
summaries", SIGIR 1998.
"""

from __future__ import annotations

import numpy as np

from vss.distance import scores as similarity
from vss.types import Metric, Rows, Scores, Vectors


def mmr(relevance: Scores, vectors: Vectors, metric: Metric, diversity: float, limit: int) -> Rows:
    """Pick up to `limit` of n candidates, one by one, each by `(1 - diversity) * relevance - diversity * likeness`.

    relevance: `(n,)`, any scale; brought to 0..1 here, so that it can be weighed against likeness
    vectors:   `(n, dim)`
    diversity: 0 keeps the order of relevance, 1 looks at likeness only
    Likeness is the greatest similarity to a candidate that was picked before, brought to 0..1 among the candidates.
    """
    relevance = unit_range(relevance)
    alike = unit_range(similarity(vectors, vectors, metric))
    nearest = np.zeros(len(relevance), np.float32)
    free = np.ones(len(relevance), np.bool_)
    picked: list[int] = []
    while len(picked) < min(limit, len(relevance)):
        value = (1 - diversity) * relevance - diversity * nearest
        choice = int(np.argmax(np.where(free, value, -np.inf)))
        picked.append(choice)
        free[choice] = False
        np.maximum(nearest, alike[choice], out=nearest)
    return np.asarray(picked, np.int64)


def unit_range(values: Scores) -> Scores:
    """The values moved and scaled to 0..1; all 1 where they do not differ."""
    if not values.size:
        return values
    low, high = float(values.min()), float(values.max())
    return np.ones_like(values) if high == low else (values - low) / (high - low)
