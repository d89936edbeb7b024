"""Rows gathered with sketches of their own: they are found as without, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexers.native import _kernel
from indexers.native.builder import NativeBuilder
from indexers.native.index import Native
from indexers.native.sketches import LEAST_ROWS, moments_of
from tests.indexers.native.oracle import best, clustered, small, whole
from vss.distance import exact_search
from vss.errors import VssError
from vss.types import Metric
from vss.vectors import as_vectors

COUNT = 1_330


@pytest.mark.parametrize("kernel", _kernel.kernels())
@pytest.mark.parametrize("measure", ["dot", "euclid"])
@pytest.mark.parametrize("dim", [1, 3, 64, 130])
def test_gathered_rows_are_found_as_listed_ones_are(kernel: str, measure: str, dim: int) -> None:
    vectors, queries = whole(COUNT, dim, seed=dim), whole(4, dim, seed=dim + 1)
    given = small(vectors, measure, graph=np.zeros((COUNT, 8), np.int32))
    searcher, moments = given.searcher(kernel), moments_of(given.codes, dim)
    random = np.random.default_rng(dim)
    for size in (0, 1, 31, 700, COUNT):
        rows = np.sort(random.permutation(COUNT)[:size]).astype(np.int32)
        gathered = searcher.gather(rows, moments)
        assert len(gathered) == size
        assert gathered.nbytes >= size * (4 + dim // 4)
        wanted = best(queries, vectors, measure, 7, rows)
        np.testing.assert_equal(searcher.scan_gathered(queries, 7, 40, gathered), wanted)


def test_what_was_gathered_stays_when_the_rows_given_change() -> None:
    vectors = whole(COUNT, 24)
    given = small(vectors, "dot", graph=np.zeros((COUNT, 8), np.int32))
    rows = np.arange(600, dtype=np.int32)
    searcher = given.searcher()
    gathered = searcher.gather(rows, moments_of(given.codes, 24))
    rows[:] = -1
    wanted = best(vectors[:3], vectors, "dot", 5, np.arange(600))
    np.testing.assert_equal(searcher.scan_gathered(vectors[:3], 5, 40, gathered), wanted)


def test_rows_of_another_searcher_are_refused() -> None:
    given = small(whole(70, 20), "dot")
    one, other = given.searcher(), given.searcher()
    gathered = one.gather(np.arange(70, dtype=np.int32), moments_of(given.codes, 20))
    with pytest.raises(ValueError, match="another searcher"):
        other.scan_gathered(whole(1, 20), 5, 10, gathered)
    with pytest.raises(ValueError, match="another searcher"):
        other.probe_gathered(whole(1, 20), 5, 10, 10, gathered)


def test_what_was_gathered_before_there_were_cells_is_not_looked_for_in_them() -> None:
    given = small(whole(70, 20), "dot")
    searcher, rows = given.searcher(), np.arange(70, dtype=np.int32)
    gathered = searcher.gather(rows, moments_of(given.codes, 20))
    for cells in (0, 3):
        if cells:
            searcher.divide(given.codes[:cells], None, (rows % cells).astype(np.uint16))
        with pytest.raises(ValueError, match="not divided"):
            searcher.probe_gathered(whole(1, 20), 5, 10, 10, gathered)


def test_looking_at_gathered_rows_leaves_nothing_to_the_next_query() -> None:
    """All ways through cells use what their thread keeps: marks that stay would let a row be found twice."""
    count, cells = 6_400, 200
    vectors = whole(count, 8, seed=1)
    given = small(vectors, "dot", graph=np.zeros((count, 1), np.int32))
    searcher, rows = given.searcher(), np.arange(count, dtype=np.int32)
    searcher.divide(given.codes[:cells].copy(), None, (rows % cells).astype(np.uint16))
    gathered, few = searcher.gather(rows, moments_of(given.codes, 8)), rows[::16].copy()
    before = searcher.probe_listed(vectors[:1], 400, 1, 400, few)[0][0]
    alone = searcher.probe_gathered(vectors[2:3], 10, 1, 40, gathered)
    searcher.probe_gathered(vectors[1:2], 10, count // 2, 40, gathered)
    assert len(set(before.tolist())) == 400
    np.testing.assert_array_equal(searcher.probe_listed(vectors[:1], 400, 1, 400, few)[0][0], before)
    np.testing.assert_equal(searcher.probe_gathered(vectors[2:3], 10, 1, 40, gathered), alone)


@pytest.mark.parametrize(
    ("rows", "moments", "said"),
    [
        (np.array([70], np.int32), np.ones((2, 20), np.float32), "out of range"),
        (np.array([-1], np.int32), np.ones((2, 20), np.float32), "out of range"),
        (np.zeros((1, 1), np.int32), np.ones((2, 20), np.float32), "one dimension"),
        (np.zeros(1, np.int32), np.ones((2, 19), np.float32), "moments: wrong shape"),
        (np.zeros(1, np.int32), np.full((2, 20), np.inf, np.float32), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(rows: Any, moments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(whole(70, 20), "dot").searcher().gather(rows, moments)


def test_half_floats_are_refused() -> None:
    given = small(whole(70, 20), "dot")
    halves = np.zeros(given.codes.shape, np.float16)
    with pytest.raises(ValueError, match="not bytes"):
        given.searcher(codes=halves).gather(np.zeros(1, np.int32), np.ones((2, 20), np.float32))


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT, Metric.EUCLID])
def test_an_index_gathers_what_is_worth_it(metric: Metric, tmp_path: Path) -> None:
    points = as_vectors(clustered(3_020, 48, 5), 48, metric)
    vectors, queries = points[:3_000], points[3_000:]
    builder = NativeBuilder()
    spec = builder.spec(metric, 48, {})
    builder.build(vectors, spec, tmp_path, threads=1, progress=lambda done: None)
    index = builder.open({path.name: path for path in tmp_path.iterdir()}, spec, vectors)
    rows = np.arange(1, 3_000, 2, dtype=np.int32)
    assert index.gathers(LEAST_ROWS)
    assert not index.gathers(LEAST_ROWS - 1)
    gathered = index.gather(rows)
    truth = exact_search(queries, vectors[rows], 10, metric)
    index.close()  # what was gathered keeps what it needs
    found = gathered.search(queries, 10)
    np.testing.assert_array_equal(found.rows, rows[truth.rows])
    np.testing.assert_allclose(found.scores, truth.scores, rtol=1e-5, atol=1e-6)
    with pytest.raises(VssError, match="was closed"):
        index.gather(rows)
    with pytest.raises(VssError, match="wanted \\(q, 48\\)"):
        gathered.search(queries[:, :40], 10)


def test_what_half_floats_hold_is_not_gathered() -> None:
    vectors = whole(2_000, 16)
    given = small(vectors, "dot", graph=np.zeros((2_000, 8), np.int32))
    halves = np.zeros(given.codes.shape, np.float16)
    spec = NativeBuilder().spec(Metric.DOT, 16, {})
    assert Native(spec, given.searcher(), given.codes).gathers(2_000)
    assert not Native(spec, given.searcher(codes=halves), halves).gathers(2_000)
