"""`passthrough` is the baseline: the order that came in goes out."""

import numpy as np
import pytest

from embedders.rerank.registry import open_reranker
from tests.conformance.reranker_suite import QUERY, SIMILARITY, TEXTS, RerankerSuite
from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Reranker


class TestPassthrough(RerankerSuite):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return open_reranker("passthrough", {})


def test_it_returns_the_similarity() -> None:
    scores = open_reranker("passthrough", {}).score(QUERY, Candidates(texts=TEXTS, similarity=SIMILARITY), Deadline())
    np.testing.assert_array_equal(scores, SIMILARITY)


def test_an_unknown_reranker_says_what_there_is() -> None:
    with pytest.raises(VssError) as caught:
        open_reranker("nonsense", {})
    assert caught.value.code is Code.NOT_FOUND
    assert "late_interaction" in str(caught.value.hint)
