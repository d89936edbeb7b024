"""`best_score` and `sum_scores` are what Qdrant's own client computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.local.distances import (
    RecoQuery,
    calculate_recommend_best_scores,
    calculate_recommend_sum_scores,
)

from indexers.registry import INDEXERS
from tests.conformance.data import clustered
from vss.engines.local import LocalEngine
from vss.filters import Range
from vss.points import Point
from vss.schema import Schema, VectorSchema
from vss.search.examples import Strategy, search_examples
from vss.storage.datadir import DataDir
from vss.storage.fold import seal
from vss.types import Metric
from vss.vectors import as_vectors

THEIRS = {Strategy.BEST: calculate_recommend_best_scores, Strategy.SUM: calculate_recommend_sum_scores}


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize(("good", "bad"), [(2, 3), (2, 0), (0, 2)])
def test_scores_are_qdrants(tmp_path: Path, metric: Metric, strategy: Strategy, good: int, bad: int) -> None:
    vectors = as_vectors(clustered(120, 6, seed=4), 6, metric)
    engine = LocalEngine(DataDir(tmp_path), INDEXERS, writable=True)
    engine.create("c", Schema(vectors={"": VectorSchema(dim=6, metric=metric)}))
    points = [Point(id=n, vectors={"": vectors[n]}, payload=b'{"n": %d}' % n) for n in range(100)]
    engine.upsert("c", points[:60]).result()
    seal(engine.collection("c"), engine, INDEXERS)
    engine.upsert("c", points[60:]).result()
    view = engine.collection("c").view()
    liked, disliked = vectors[100 : 100 + good], vectors[110 : 110 + bad]
    query = RecoQuery(positive=list(liked), negative=list(disliked), strategy=models.RecommendStrategy(strategy.value))
    theirs = THEIRS[strategy](query, vectors[:100], models.Distance(metric.value))
    found = search_examples(view, liked, disliked, strategy, using="", k=10, where=Range("n", gte=5))
    wanted = [int(row) for row in np.argsort(-theirs, kind="stable") if row >= 5][:10]
    np.testing.assert_allclose(found.scores, theirs[wanted], rtol=2e-4, atol=1e-5)
    ids = [view.parts[part].point(int(row)).id for part, row in zip(found.parts, found.rows, strict=True)]
    assert set(ids) == set(wanted)
    engine.close()
