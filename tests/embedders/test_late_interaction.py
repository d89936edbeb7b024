"""`late_interaction` against MaxSim written out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from embedders.hashing import HashingEmbedder
from embedders.rerank.registry import model_of, open_reranker
from tests.conformance.reranker_suite import RerankerSuite
from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Reranker, RerankQuery, TokenVectors
from vss.types import Role

DOCUMENTS = (
    "open a file and read its lines",
    "",
    "remove a directory tree",
    "lines of a file",
    "   ",
    "sleep until a moment has passed",
    "lines of a file",
)


class Watching(HashingEmbedder):
    """Hashing that remembers which texts it was asked for."""

    def __init__(self) -> None:
        super().__init__(64)
        self.asked: list[str] = []

    def embed_tokens(self, texts: Sequence[str], role: Role) -> list[TokenVectors]:
        self.asked.extend(texts)
        return super().embed_tokens(texts, role)


class TestLateInteraction(RerankerSuite):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return open_reranker("late_interaction", {"hashing-64": HashingEmbedder(64)})


def likeness(query: str, document: str) -> float:
    """Half MaxSim, half cosine, token by token."""
    embedder = HashingEmbedder(64)
    (left,) = embedder.embed_tokens([query], Role.QUERY)
    (right,) = embedder.embed_tokens([document], Role.DOCUMENT)
    best = [max(float(np.dot(token, other)) for other in right.tokens) for token in left.tokens]
    return sum(best) / len(best) / 2 + float(np.dot(left.sentence, right.sentence)) / 2


def candidates(texts: Sequence[str]) -> Candidates:
    return Candidates(texts=tuple(texts), similarity=np.linspace(1, 0, len(texts), dtype=np.float32))


@pytest.mark.parametrize(
    "query",
    [
        RerankQuery(wanted=("read lines",)),
        RerankQuery(wanted=("read lines", "a directory"), unwanted=("sleep",)),
        RerankQuery(wanted=(), unwanted=("open a file", "remove")),
    ],
)
def test_scores_are_those_of_the_formula(query: RerankQuery) -> None:
    scores = open_reranker("late_interaction", {"h": HashingEmbedder(64)}).score(
        query, candidates(DOCUMENTS), Deadline()
    )
    for text, score in zip(DOCUMENTS, scores, strict=True):
        if text.strip():
            expected = sum(likeness(one, text) for one in query.wanted) / max(len(query.wanted), 1)
            expected -= sum(likeness(one, text) for one in query.unwanted) / max(len(query.unwanted), 1) / 2
            assert score == pytest.approx(expected, abs=1e-5), text


def test_what_says_the_querys_words_comes_first() -> None:
    scores = open_reranker("late_interaction", {"h": HashingEmbedder(64)}).score(
        RerankQuery(wanted=("lines of a file",)), candidates(DOCUMENTS[:6]), Deadline()
    )
    assert int(np.argmax(scores)) == 3
    assert scores[3] == pytest.approx(1.0, abs=1e-5)


def test_candidates_without_text_come_last_in_their_order() -> None:
    scores = open_reranker("late_interaction", {"h": HashingEmbedder(64)}).score(
        RerankQuery(wanted=("read lines",)), candidates(DOCUMENTS), Deadline()
    )
    order = np.argsort(-scores, kind="stable").tolist()
    assert order[-2:] == [1, 4]
    assert scores[1] > scores[4]


def test_a_text_that_comes_twice_is_embedded_once() -> None:
    watching = Watching()
    scores = open_reranker("late_interaction", {"w": watching}).score(
        RerankQuery(wanted=("read",)), candidates(DOCUMENTS), Deadline()
    )
    assert sorted(watching.asked) == sorted({"read", *DOCUMENTS} - {"", "   "})
    assert scores[3] == scores[6]


def test_the_deadline_is_looked_at_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock passes the deadline when the third call to the model has been made."""
    watching = Watching()
    monkeypatch.setattr("time.monotonic", lambda: 100.0 if len(watching.asked) > 50 else 0.0)
    texts = [f"text number {place} " + "word " * 100 for place in range(400)]
    with pytest.raises(VssError, match="of 400 texts were done") as caught:
        open_reranker("late_interaction", {"w": watching}).score(
            RerankQuery(wanted=("read",)), candidates(texts), Deadline(at=50.0)
        )
    assert caught.value.code is Code.DEADLINE
    assert 50 < len(watching.asked) < 200


def test_nothing_to_rank_for_is_refused() -> None:
    with pytest.raises(VssError) as caught:
        open_reranker("late_interaction", {"h": HashingEmbedder(64)}).score(
            RerankQuery(wanted=()), candidates(DOCUMENTS), Deadline()
        )
    assert caught.value.code is Code.INVALID


def test_the_model_is_the_first_one_or_the_one_named() -> None:
    assert model_of("late_interaction", ("a", "b")) == "a"
    assert model_of("late_interaction:b", ("a", "b")) == "b"
    assert model_of("passthrough", ()) is None
    with pytest.raises(VssError):
        model_of("late_interaction:c", ("a", "b"))
    with pytest.raises(VssError):
        model_of("late_interaction", ())
