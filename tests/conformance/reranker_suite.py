"""What every re-ranker must do. A backend's test is a subclass that says how it is opened."""

from __future__ import annotations

import numpy as np
import pytest

from vss.errors import Code, VssError
from vss.protocols import Candidates, Deadline, Reranker, RerankQuery

TEXTS = ("zip a folder", "sleep for a second", "open a file", "walk a directory tree", "zip a folder")
SIMILARITY = np.array([0.9, 0.8, 0.7, 0.6, 0.5], dtype=np.float32)
QUERY = RerankQuery(wanted=("open a file for reading",))


class RerankerSuite:
    """Inherit, and implement `reranker`."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The re-ranker under test."""
        raise NotImplementedError

    def candidates(self, *places: int) -> Candidates:
        """Those of `TEXTS` at the places given."""
        return Candidates(texts=tuple(TEXTS[place] for place in places), similarity=SIMILARITY[list(places)])

    def test_a_score_for_each_candidate(self, reranker: Reranker) -> None:
        scores = reranker.score(QUERY, self.candidates(0, 1, 2, 3), Deadline())
        assert scores.shape == (4,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_no_candidates_no_scores(self, reranker: Reranker) -> None:
        assert reranker.score(QUERY, self.candidates(), Deadline()).shape == (0,)

    def test_scores_stand_in_the_candidates_order(self, reranker: Reranker) -> None:
        forward = reranker.score(QUERY, self.candidates(0, 1, 2, 3), Deadline())
        backward = reranker.score(QUERY, self.candidates(3, 2, 1, 0), Deadline())
        np.testing.assert_allclose(forward, backward[::-1], atol=1e-5)

    def test_the_candidates_are_left_alone(self, reranker: Reranker) -> None:
        given = Candidates(texts=TEXTS, similarity=SIMILARITY.copy())
        scores = reranker.score(QUERY, given, Deadline())
        scores[:] = 0
        np.testing.assert_array_equal(given.similarity, SIMILARITY)

    def test_a_model_gives_up_when_the_deadline_has_passed(self, reranker: Reranker) -> None:
        if not reranker.needs:
            pytest.skip("it computes nothing that could be late")
        with pytest.raises(VssError) as caught:
            reranker.score(QUERY, self.candidates(0, 1), Deadline(at=0.0))
        assert caught.value.code is Code.DEADLINE
