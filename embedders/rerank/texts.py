"""What re-rankers that read texts share: which texts to score once, and each candidate's score from its text's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vss.errors import invalid
from vss.protocols import Candidates, RerankQuery
from vss.types import Scores

UNWANTED_WEIGHT = 0.5
"""How much the likeness to unwanted texts takes away, beside the 1 that the likeness to wanted ones gives."""


def shares(query: RerankQuery) -> Scores:
    """`(texts,)` float32: what each text of the query counts, the means of each kind. VssError (INVALID)."""
    if not query.wanted and not query.unwanted:
        raise invalid(
            "got nothing to rank for, wanted at least one wanted or unwanted text",
            field="rerank.model",
            hint="send a query, or examples that hold the collection's text_field",
        )
    counted = [1 / len(query.wanted) for _ in query.wanted]
    counted += [-UNWANTED_WEIGHT / len(query.unwanted) for _ in query.unwanted]
    return np.asarray(counted, dtype=np.float32)


def different_texts(candidates: Candidates) -> list[str]:
    """Each text once, in the candidates' order, blank ones left out."""
    return list(dict.fromkeys(text for text in candidates.texts if text.strip()))


def by_text(candidates: Candidates, scores: Mapping[str, float]) -> Scores:
    """`(n,)` float32: each candidate's score by its text; those without text come last, in their order."""
    lowest = min(scores.values(), default=0.0)
    count = len(candidates.texts)
    # Steps of 1/n below the lowest: wide enough for float32 to keep the order.
    without = (lowest - 1 - place / max(count, 1) for place in range(count))
    found = [scores.get(text, low) for text, low in zip(candidates.texts, without, strict=True)]
    return np.asarray(found, dtype=np.float32)
