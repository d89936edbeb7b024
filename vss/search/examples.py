"""Examples as a query.

average_vector    the mean of what is liked, moved away from the mean of what is disliked: one vector to search by
search_examples   Qdrant's `best_score` and `sum_scores`: every point is compared with every example
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from vss.distance import scores, top_k
from vss.errors import invalid
from vss.filters import Condition
from vss.protocols import Deadline
from vss.schema import VectorSchema
from vss.search.plan import Method, Plan
from vss.search.retrieve import NO_DEADLINE, Found, merged, part_plan
from vss.storage.segment import Segment
from vss.storage.view import View
from vss.types import Hits, Metric, Scores, Vectors
from vss.vectors import as_vectors, faults


def average_vector(
    schema: VectorSchema, liked: Sequence[Vectors], disliked: Sequence[Vectors], *, field: str
) -> Vectors:
    """`(1, dim)`: `mean(liked) + mean(liked) - mean(disliked)` of `(dim,)` vectors, as Qdrant's `average_vector`.

    Raises VssError (INVALID) when the two sides cancel each other out, which leaves no direction under Cosine.
    """
    vector = np.mean(liked, axis=0)
    if len(disliked):
        vector = vector + vector - np.mean(disliked, axis=0)
    if faults(vector[None, :], schema.metric).any():
        raise invalid(
            "the liked and disliked items cancel each other out",
            field=field,
            hint="leave out items that stand on both sides",
        )
    return as_vectors(vector, schema.dim, schema.metric)


class Strategy(StrEnum):
    """How the comparisons with all examples become one score.

    BEST: by the most similar example: s(liked) when that is the nearer one, else -s(disliked), s the sigmoid
          `(1 + x / (1 + |x|)) / 2` that Qdrant uses
    SUM:  the sum over the liked minus the sum over the disliked
    """

    BEST = "best_score"
    SUM = "sum_scores"


BLOCK_ROWS = 16_384


def search_examples(
    view: View,
    liked: Vectors,
    disliked: Vectors,
    strategy: Strategy,
    *,
    using: str,
    k: int,
    where: Condition | None = None,
    deadline: Deadline = NO_DEADLINE,
) -> Found:
    """The k best points by a strategy over `(n, dim)` liked and `(m, dim)` disliked vectors, at least one together.

    Exact: no graph is built for such scores, so every allowed row is scored. Under Euclid the similarity is minus the
    squared distance, as in Qdrant.
    """
    metric = view.schema.vector(using).metric
    answers: list[tuple[int, Hits]] = []
    plans, available, late = [], 0, False
    for number, part in enumerate(view.parts):
        late = bool(answers) and deadline.passed()
        if late:
            break
        started = time.perf_counter()
        selection, known = part.select(using, where)
        filtered = time.perf_counter()
        available += selection.count
        if not selection.count:
            continue
        body = part.body
        vectors = body.vectors[using].vectors
        total = np.concatenate(
            [
                _combined(liked, disliked, vectors[start : start + BLOCK_ROWS], metric, strategy)
                for start in range(0, len(vectors), BLOCK_ROWS)
            ]
        )
        if selection.mask is not None:
            total[~selection.mask] = -np.inf
        hits = top_k(total[None, :], k)
        if isinstance(body, Segment) and (rows := body.vectors[using].rows) is not None:
            hits = Hits(np.where(hits.rows >= 0, rows[hits.rows], -1), hits.scores)
        answers.append((number, hits))
        plan = Plan(Method.SCAN, len(vectors), selection.count, None, f"{strategy.value} has no graph")
        plans.append(part_plan(number, plan, (selection, known), started, filtered))
    return merged(answers, 1, k, available, tuple(plans), late=late)[0]


def _combined(liked: Vectors, disliked: Vectors, block: Vectors, metric: Metric, strategy: Strategy) -> Scores:
    good, bad = _similarity(liked, block, metric), _similarity(disliked, block, metric)
    if strategy is Strategy.SUM:
        total: Scores = good.sum(axis=0) - bad.sum(axis=0)
        return total
    best, worst = good.max(axis=0, initial=-np.inf), bad.max(axis=0, initial=-np.inf)
    return np.where(best > worst, _sigmoid(best), -_sigmoid(worst)).astype(np.float32)


def _similarity(examples: Vectors, block: Vectors, metric: Metric) -> Scores:
    found = scores(examples, block, metric)
    if metric is Metric.EUCLID:
        np.negative(np.square(found, out=found), out=found)
    return found


def _sigmoid(value: Scores) -> Scores:
    with np.errstate(invalid="ignore"):  # of minus infinity, which `where` does not choose
        result: Scores = 0.5 * (value / (1 + np.abs(value)) + 1)
    return result
