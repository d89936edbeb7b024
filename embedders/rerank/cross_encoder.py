"""A cross-encoder reads the query and a candidate together and says how relevant the one is to the other.

Any CrossEncoder of sentence-transformers with one output, from a folder or the hub: safetensors only, no code of the
author's. It is slower than late interaction by a forward pass per candidate and query text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from embedders.encoder import by_budget
from embedders.loading import fetch, load_cross_encoder, set_threads
from embedders.rerank.texts import by_text, different_texts, shares
from vss.cores import usable_cores
from vss.errors import Code, VssError, invalid
from vss.protocols import Candidates, Deadline, RerankQuery
from vss.types import Scores

_BUDGET = {"cpu": 1024, "cuda": 65_536}
"""Tokens of one forward pass, between two looks at the deadline."""

_UNLIMITED = 8192
"""Tokens read of a pair by a model that states no limit."""


class CrossEncoderReranker:
    """`vss.protocols.Reranker`. For one query text q and one candidate d, with the model's one output z(q, d)

        relevance(q, d) = 1 / (1 + exp(-z))
        score(d)        = mean over wanted q (relevance) - 1/2 mean over unwanted q (relevance)

    A candidate without text scores lower than any that has one; such candidates keep their order.
    """

    needs: frozenset[str] = frozenset({"text"})

    def __init__(
        self, name: str, source: Path | str, *, precision: str = "float32", threads: int | None = None
    ) -> None:
        """Load `source`, a folder or a hub name. All calls must come from one thread.

        name:      what it is served as
        precision: "float32" (and "auto"), "bfloat16" or "float16"
        threads:   CPU threads for torch and the tokenizer; None takes the cores this process may use

        Raises VssError: INVALID (unsafe files, several outputs), UNAVAILABLE (hub), MODEL_FAILED.
        """
        self.name = name
        set_threads(threads or usable_cores())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = source if isinstance(source, Path) else fetch(source)
        self._model = load_cross_encoder(folder, device, "float32" if precision == "auto" else precision)
        outputs = int(self._model.config.num_labels)
        if outputs != 1:
            raise invalid(
                f"the model of {name} has {outputs} outputs, wanted 1: how relevant a text is",
                hint="take a cross-encoder for ranking, not one that sorts into classes",
            )
        # Named max_length before sentence-transformers 6.
        limit = "max_seq_length" if hasattr(type(self._model), "max_seq_length") else "max_length"
        positions = getattr(self._model.config, "max_position_embeddings", None)
        self._max_tokens = _least(getattr(self._model, limit), positions)
        setattr(self._model, limit, self._max_tokens)
        self._budget = _BUDGET[device]

    def score(self, query: RerankQuery, candidates: Candidates, deadline: Deadline) -> Scores:
        """`(n,)` float32. Each different text is read once for each text of the query. VssError: INVALID, DEADLINE."""
        counted = shares(query)
        deadline.check("re-ranking")
        asked = (*query.wanted, *query.unwanted)
        texts = different_texts(candidates)
        if not texts:
            return by_text(candidates, {})
        pairs = [(one, text) for text in texts for one in asked]
        relevance = np.empty(len(pairs), dtype=np.float32)
        done = 0
        for places in by_budget(self._lengths(pairs), self._budget):
            deadline.check(f"re-ranking: {done} of {len(pairs)} pairs were done")
            relevance[places] = self._relevance([pairs[place] for place in places])
            done += len(places)
        scores = relevance.reshape(len(texts), len(asked)) @ counted
        return by_text(candidates, dict(zip(texts, scores.tolist(), strict=True)))

    def close(self) -> None:
        """Free the weights."""
        del self._model

    def _lengths(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        left, right = zip(*pairs, strict=True)
        encoded = self._model.tokenizer(list(left), list(right), truncation=True, max_length=self._max_tokens)
        return [len(ids) for ids in encoded["input_ids"]]

    def _relevance(self, pairs: list[tuple[str, str]]) -> Scores:
        made = self._model.predict(
            pairs,
            batch_size=len(pairs),
            show_progress_bar=False,
            activation_fn=torch.nn.Identity(),
            convert_to_tensor=True,
        )
        relevance: Scores = torch.sigmoid(made.float()).cpu().numpy().reshape(len(pairs))
        if not np.isfinite(relevance).all():
            raise VssError(
                Code.MODEL_FAILED, f"{self.name} made a score that is not finite", hint="set the precision to float32"
            )
        return relevance


def _least(*limits: int | None) -> int:
    """What the model reads of a pair: its own limit, and no more than it has positions for."""
    return min([int(limit) for limit in limits if limit and 0 < limit <= 1_000_000], default=_UNLIMITED)
