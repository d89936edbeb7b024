"""One wild row or component spoils the codes of no other row, and is found itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexers.native.builder import NativeBuilder
from vss.distance import exact_search
from vss.recall import recall_at
from vss.types import Metric, Vectors, no_progress

EFFORT, WILD = 128, 5


def wild_row(vectors: Vectors) -> None:
    vectors[WILD] *= 1e6


def wild_component(vectors: Vectors) -> None:
    vectors[WILD, 3] = 1e9


@pytest.mark.parametrize("metric", [Metric.EUCLID, Metric.DOT])
@pytest.mark.parametrize("spoil", [wild_row, wild_component])
@pytest.mark.parametrize("count", [4_000, 9_000])
def test_the_others_are_found_and_so_is_it(
    metric: Metric, spoil: Callable[[Vectors], None], count: int, tmp_path: Path
) -> None:
    """Of the smaller set a sample is all, of the larger one the wild row must be looked for."""
    random = np.random.default_rng(0)
    vectors, queries = (random.normal(size=(size, 24)).astype(np.float32) for size in (count, 200))
    spoil(vectors)
    builder = NativeBuilder()
    spec = builder.spec(metric, 24, {})
    builder.build(vectors, spec, tmp_path, threads=2, progress=no_progress)
    index = builder.open({path.name: path for path in tmp_path.iterdir()}, spec, vectors)
    found = index.search(queries, 10, effort=EFFORT)
    truth = exact_search(queries, vectors, 10, metric)
    assert recall_at(found.rows, truth.rows) >= 0.95
    if metric is Metric.DOT:
        np.testing.assert_array_equal((found.rows == WILD).any(axis=1), (truth.rows == WILD).any(axis=1))
    everyone = np.arange(count, dtype=np.int32)
    assert index.scan(vectors[WILD : WILD + 1], 10, everyone).rows[0, 0] == WILD
