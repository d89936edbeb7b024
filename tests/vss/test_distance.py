"""Exact scoring agrees with float64, near and far, whole and in blocks."""

import numpy as np
import pytest

import vss.distance as distance
from tests.conformance.data import clustered
from vss.distance import exact_search, score_rows, scores, top_k
from vss.types import Metric
from vss.vectors import as_vectors

SEED = 5
ALL = list(Metric)


def by_definition(queries, vectors, metric):
    """Scores in float64, straight from the definition."""
    queries, vectors = queries.astype(np.float64), vectors.astype(np.float64)
    apart = queries[:, None, :] - vectors[None, :, :]
    if metric is Metric.EUCLID:
        return -np.sqrt((apart**2).sum(axis=2))
    if metric is Metric.MANHATTAN:
        return -np.abs(apart).sum(axis=2)
    return queries @ vectors.T


def by_sorting(exact, k):
    """The k best rows of each line, the lower row first among equals."""
    return np.array([sorted(range(len(line)), key=lambda row, line=line: (-line[row], row))[:k] for line in exact])


@pytest.fixture(params=ALL)
def case(request):
    points = as_vectors(clustered(640, 48, SEED, centres=20, latent=8), 48, request.param)
    return points[:600], points[600:], request.param


@pytest.mark.parametrize("count", [1, 40])
def test_scores_follow_the_definition(case, count):
    vectors, queries, metric = case
    result = scores(queries[:count], vectors, metric)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, by_definition(queries[:count], vectors, metric), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("count", [1, 40])
def test_a_far_away_cloud_keeps_its_inner_distances(count):
    vectors = clustered(300, 48, SEED) + np.float32(5000)
    result = scores(vectors[:count], vectors, Metric.EUCLID)
    np.testing.assert_allclose(result, by_definition(vectors[:count], vectors, Metric.EUCLID), rtol=1e-4, atol=1e-6)
    assert (result[np.arange(count), np.arange(count)] == 0).all()


@pytest.mark.parametrize("metric", [Metric.EUCLID, Metric.MANHATTAN])
def test_an_equal_vector_has_the_distance_zero_and_not_minus_zero(metric):
    vectors = clustered(100, 48, SEED)
    best = exact_search(vectors, vectors, 1, metric)
    np.testing.assert_array_equal(best.rows[:, 0], np.arange(100))
    assert (best.scores == 0).all()
    assert not np.signbit(best.scores).any()


def test_the_largest_accepted_components_do_not_overflow():
    vectors = np.full((2, 1000), 1e15, dtype=np.float32)
    vectors[1] *= -1
    for metric in ALL:
        assert np.isfinite(scores(vectors, vectors, metric)).all()


def test_search_finds_what_sorting_finds(case):
    vectors, queries, metric = case
    hits = exact_search(queries, vectors, 7, metric)
    np.testing.assert_array_equal(hits.rows, by_sorting(by_definition(queries, vectors, metric), 7))


@pytest.mark.parametrize("part", [0.05, 0.9])
def test_search_under_a_mask_finds_what_sorting_the_allowed_finds(case, part):
    vectors, queries, metric = case
    allow = np.random.default_rng(SEED).random(len(vectors)) < part
    exact = np.where(allow, by_definition(queries, vectors, metric), -np.inf)
    np.testing.assert_array_equal(exact_search(queries, vectors, 7, metric, allow).rows, by_sorting(exact, 7))


@pytest.mark.parametrize("part", [None, 0.05, 0.9])
def test_the_size_of_a_block_changes_nothing(case, part, monkeypatch):
    vectors, queries, metric = case
    allow = None if part is None else np.random.default_rng(SEED).random(len(vectors)) < part
    whole = exact_search(queries, vectors, 7, metric, allow)
    monkeypatch.setattr(distance, "BLOCK_FLOATS", 48 * 11)
    monkeypatch.setattr(distance, "CACHE_FLOATS", 48 * 5)
    blocks = exact_search(queries, vectors, 7, metric, allow)
    np.testing.assert_array_equal(blocks.rows, whole.rows)
    np.testing.assert_array_equal(blocks.scores, whole.scores)


def test_a_batch_answers_bit_for_bit_what_its_queries_do(case):
    vectors, queries, metric = case
    batch = exact_search(queries, vectors, 7, metric)
    for row in range(len(queries)):
        alone = exact_search(queries[row : row + 1], vectors, 7, metric)
        np.testing.assert_array_equal(alone.rows[0], batch.rows[row])
        np.testing.assert_array_equal(alone.scores[0], batch.scores[row])


def test_equal_vectors_come_in_order_of_rows(case, monkeypatch):
    vectors, queries, metric = case
    twins = np.concatenate([vectors[:5], vectors[:5], vectors[:5]])
    monkeypatch.setattr(distance, "BLOCK_FLOATS", 48 * 4)
    for line in exact_search(queries, twins, 15, metric).rows:
        for first in range(0, 15, 3):
            assert line[first] + 10 == line[first + 1] + 5 == line[first + 2]


def test_no_input_is_written(case):
    vectors, queries, metric = case
    allow = np.ones(len(vectors), dtype=np.bool_)
    for array in (vectors, queries, allow):
        array.flags.writeable = False
    before = vectors.copy(), queries.copy()
    exact_search(queries, vectors, 3, metric, allow)
    exact_search(queries, vectors, 3, metric)
    np.testing.assert_array_equal(vectors, before[0])
    np.testing.assert_array_equal(queries, before[1])


def test_score_rows_gives_each_pair_and_minus_infinity_for_none(case):
    vectors, queries, metric = case
    rows = np.array([[3, -1, 500], [0, 1, 2]])
    result = score_rows(queries[:2], vectors, rows, metric)
    assert result[0, 1] == -np.inf
    exact = by_definition(queries[:2], vectors, metric)
    np.testing.assert_allclose(result[1], exact[1, [0, 1, 2]], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(result[0, [0, 2]], exact[0, [3, 500]], rtol=2e-5, atol=2e-5)


def test_top_k_breaks_ties_by_the_lower_row_and_pads():
    result = top_k(np.array([[1, 3, 3, 2, 3], [0, 0, -np.inf, 0, 0]], dtype=np.float32), 2)
    assert result.rows.tolist() == [[1, 2], [0, 1]]
    result = top_k(np.array([[1, -np.inf, 2]], dtype=np.float32), 5)
    assert result.rows.tolist() == [[2, 0, -1, -1, -1]]
    assert result.scores.tolist() == [[2, 1, -np.inf, -np.inf, -np.inf]]


@pytest.mark.parametrize(("count", "k"), [(0, 3), (4, 0), (2, 5)])
def test_too_few_vectors_or_no_k_pad(count, k):
    vectors = clustered(4, 48, SEED)
    hits = exact_search(vectors, vectors[:count], k, Metric.EUCLID)
    assert hits.rows.shape == hits.scores.shape == (4, k)
    assert (hits.rows[:, count:] == -1).all()
    assert (hits.scores[:, count:] == -np.inf).all()
    assert exact_search(vectors[:0], vectors, 3, Metric.EUCLID).rows.shape == (0, 3)
