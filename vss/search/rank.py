"""Re-ranking that fails open: a broken or late re-ranker leaves the similarity order, and the answer says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Models, RerankQuery
from vss.types import Rows, Scores

FAILURES = frozenset({Code.DEADLINE, Code.MODEL_FAILED, Code.OVERLOADED, Code.UNAVAILABLE})
"""What a re-ranker may die of without the request dying with it. A wrong name is the caller's error."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order after re-ranking.

    order:    `(n,)` int64, candidate numbers, best first
    scores:   `(n,)` float32 by candidate, the re-ranker's; the similarity where it failed
    degraded: why the similarity order was kept, or None
    """

    order: Rows
    scores: Scores
    degraded: str | None


async def rank(
    models: Models,
    reranker: str | None,
    query: RerankQuery,
    candidates: Candidates,
    deadline: Deadline,
    *,
    fail_open: bool,
) -> Ranking:
    """Order the candidates by a re-ranker; by similarity when none is named.

    Raises VssError: NOT_FOUND for an unknown re-ranker; what the re-ranker failed of unless `fail_open`.
    """
    scores, degraded = candidates.similarity, None
    if reranker is not None and len(scores):
        try:
            scores = _checked(reranker, await models.rerank(reranker, query, candidates, deadline), len(scores))
        except VssError as error:
            if not fail_open or error.code not in FAILURES:
                raise
            degraded = f"{error.code.value}: {error.message}"
    # A stable sort: where the re-ranker sees no difference the similarity order stays.
    return Ranking(np.argsort(-scores, kind="stable"), scores, degraded)


def _checked(reranker: str, scores: Scores, count: int) -> Scores:
    """The scores themselves. VssError (MODEL_FAILED) when they are not one finite number for each candidate."""
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise VssError(
            Code.MODEL_FAILED,
            f"the re-ranker {reranker} gave {scores.size} scores, {int(np.isfinite(scores).sum())} of them finite, "
            f"wanted {count}",
        )
    return scores
