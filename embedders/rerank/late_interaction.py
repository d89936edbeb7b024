"""Late interaction: every token of the query meets every token of a candidate.

Source: MaxSim of Khattab and Zaharia, "ColBERT" (2020), here over the token vectors of an embedder that is loaded
anyway, so no further weights are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from embedders.rerank.texts import by_text, different_texts, shares
from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, RerankQuery, TokenEmbedder
from vss.types import Role, Scores, Vectors

_BATCH_BYTES = 12_000
"""Text embedded between two looks at the deadline; about 3,000 tokens of English."""


class LateInteraction:
    """`vss.protocols.Reranker`. For one query text q and one candidate d

        likeness(q, d) = 1/2 mean over tokens t of q (max over tokens u of d (cos(t, u))) + 1/2 cos(q, d)
        score(d)       = mean over wanted q (likeness) - 1/2 mean over unwanted q (likeness)

    A candidate without text scores lower than any that has one; such candidates keep their order.
    """

    needs: frozenset[str] = frozenset({"text"})

    def __init__(self, embedder: TokenEmbedder, name: str = "late_interaction") -> None:
        """`embedder` stays its owner's; all calls must come from the thread that owns it."""
        self.name = name
        self._embedder = embedder

    def score(self, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32. Each different text is embedded once. VssError: INVALID, DEADLINE."""
        counted = shares(query)
        deadline.check("re-ranking")
        judge = _Judge(self._embedder, query, counted)
        likeness: dict[str, float] = {}
        texts = different_texts(candidates)
        for batch in _batches(texts):
            deadline.check(f"re-ranking: {len(likeness)} of {len(texts)} texts were done")
            likeness.update(zip(batch, judge.likeness(batch).tolist(), strict=True))
        return by_text(candidates, likeness)

    def close(self) -> None:
        """Nothing to free: the embedder is its owner's."""


class _Judge:
    """The query side, embedded once: all tokens of all its texts, each with its share of the score."""

    def __init__(self, embedder: TokenEmbedder, query: RerankQuery, counted: Scores) -> None:
        self._embedder = embedder
        texts = [*query.wanted, *query.unwanted]
        made = embedder.embed_tokens(texts, Role.QUERY)
        self._tokens: Vectors = np.concatenate([one.tokens for one in made])
        self._sentences: Vectors = np.stack([one.sentence for one in made])
        self._token_shares = np.concatenate(
            [np.full(len(one.tokens), share / len(one.tokens)) for one, share in zip(made, counted, strict=True)]
        ).astype(np.float32)
        self._sentence_shares = counted

    def likeness(self, texts: Sequence[str]) -> Scores:
        """`(len(texts),)` float32. One matrix product for all tokens; the maxima are taken text by text."""
        made = self._embedder.embed_tokens(texts, Role.DOCUMENT)
        starts = np.cumsum([0, *(len(one.tokens) for one in made[:-1])])
        cosines = self._tokens @ np.concatenate([one.tokens for one in made]).T
        tokens = self._token_shares @ np.maximum.reduceat(cosines, starts, axis=1)
        sentences = self._sentence_shares @ (self._sentences @ np.stack([one.sentence for one in made]).T)
        scores: Scores = ((tokens + sentences) / 2).astype(np.float32)
        if not np.isfinite(scores).all():
            raise VssError(Code.MODEL_FAILED, "the model made token vectors that are not finite")
        return scores


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts by rising length, in groups of about `_BATCH_BYTES`."""
    group: list[str] = []
    size = 0
    for text in sorted(texts, key=len):
        group.append(text)
        size += len(text.encode(errors="replace")) + 16
        if size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
