"""The baseline re-ranker: the order that came in goes out."""

from __future__ import annotations

from vss.protocols import Candidates, Deadline, RerankQuery
from vss.types import Scores


class Passthrough:
    """`vss.protocols.Reranker` that returns the similarity. What a model must beat."""

    name = "passthrough"
    needs: frozenset[str] = frozenset()

    def score(self, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32: a copy of the candidates' similarity."""
        return candidates.similarity.copy()

    def close(self) -> None:
        """Nothing to free."""
