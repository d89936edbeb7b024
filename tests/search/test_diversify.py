"""Maximal marginal relevance against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.data import clustered
from vss.search.diversify import mmr
from vss.types import Metric
from vss.vectors import as_vectors


def by_definition(relevance: np.ndarray, alike: np.ndarray, diversity: float, limit: int) -> list[int]:
    picked: list[int] = []
    while len(picked) < limit:
        left = [one for one in range(len(relevance)) if one not in picked]
        value = {
            one: (1 - diversity) * relevance[one] - diversity * max((alike[one, p] for p in picked), default=0)
            for one in left
        }
        picked.append(max(left, key=lambda one: value[one]))
    return picked


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
def test_it_is_the_definition(diversity: float) -> None:
    vectors = as_vectors(clustered(40, 8, seed=1), 8, Metric.COSINE)
    relevance = (vectors @ vectors[0]).astype(np.float32)
    unit = (relevance - relevance.min()) / (relevance.max() - relevance.min())
    alike = vectors @ vectors.T
    alike = (alike - alike.min()) / (alike.max() - alike.min())
    picked = mmr(relevance, vectors, Metric.COSINE, diversity, 10).tolist()
    assert picked == by_definition(unit, alike, diversity, 10)


def test_no_diversity_keeps_the_order() -> None:
    vectors = as_vectors(clustered(20, 8, seed=2), 8, Metric.COSINE)
    relevance = np.linspace(1, 0, 20, dtype=np.float32)
    assert mmr(relevance, vectors, Metric.COSINE, 0.0, 20).tolist() == list(range(20))


def test_fewer_candidates_than_asked_for() -> None:
    vectors = as_vectors(clustered(3, 8, seed=2), 8, Metric.COSINE)
    assert sorted(mmr(np.ones(3, np.float32), vectors, Metric.COSINE, 0.5, 10).tolist()) == [0, 1, 2]
