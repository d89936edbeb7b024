"""Recall counts what a user would count; the curve leads to the least effort that keeps a promise."""

import numpy as np
import pytest

from indexers.faiss_hnsw import FaissHnswBuilder
from indexers.flat import FlatBuilder
from tests.conformance.data import clustered
from vss.distance import exact_search
from vss.recall import CurvePoint, calibrate, effort_for, recall_at, recall_by_score, without
from vss.types import Hits, Metric, no_progress

SEED = 3


def test_recall_is_the_part_of_true_rows_found_in_any_order():
    assert recall_at(np.array([[3, 1, 9], [4, 5, 6]]), np.array([[1, 2, 3], [4, 5, 6]])) == pytest.approx(5 / 6)


def test_rows_that_do_not_exist_do_not_count():
    assert recall_at(np.array([[1, -1], [-1, -1]]), np.array([[1, -1], [2, 3]])) == pytest.approx(1 / 2)
    assert recall_at(np.array([[-1]]), np.array([[-1]])) == 1.0
    assert recall_by_score(np.array([[-np.inf]], np.float32), np.array([[-np.inf]], np.float32)) == 1.0


def test_by_score_a_twin_of_a_neighbour_is_a_neighbour():
    true = np.array([[-1.0, -2.0, -2.0]], dtype=np.float32)
    assert recall_by_score(np.array([[-1.0, -2.0, -2.000001]], dtype=np.float32), true) == 1.0
    assert recall_by_score(np.array([[-1.0, -2.0, -2.1]], dtype=np.float32), true) == pytest.approx(2 / 3)
    assert recall_by_score(np.array([[-2.0, -2.0, -2.0, -2.0]], dtype=np.float32), true) == 1.0


def test_by_score_missing_rows_are_misses():
    true = np.array([[0.9, 0.8]], dtype=np.float32)
    assert recall_by_score(np.array([[0.9, -np.inf]], dtype=np.float32), true) == 0.5


def test_without_takes_out_the_own_row_or_the_last():
    hits = Hits(np.array([[5, 1, 2], [3, 4, 6]]), np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]], dtype=np.float32))
    assert without(hits, np.array([1, 9])).rows.tolist() == [[5, 2], [3, 4]]


def test_a_curve_rises_with_effort_and_tells_the_real_recall(tmp_path):
    vectors = clustered(6000, 32, SEED, centres=100, latent=16)
    builder = FaissHnswBuilder()
    spec = builder.spec(Metric.EUCLID, 32, {"m": 4, "ef_construction": 20})
    builder.build(vectors, spec, tmp_path, threads=1, progress=no_progress)
    index = builder.open({path.name: path for path in tmp_path.iterdir()}, spec, vectors)
    curve = calibrate(index, vectors, Metric.EUCLID, efforts=(64, 16, 32, 256), sample=200, seed=SEED)
    efforts = [point.effort for point in curve]
    assert efforts == [16, 32, 64, 256][: len(curve)]
    recalls = [point.recall for point in curve]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.95 < recalls[-1]
    assert all(point.microseconds > 0 for point in curve)
    again = calibrate(index, vectors, Metric.EUCLID, efforts=(16, 32, 64, 256), sample=200, seed=SEED)
    assert [point.recall for point in again] == recalls


def test_an_exact_index_has_one_point_and_is_always_right():
    vectors = clustered(300, 16, SEED)
    flat = FlatBuilder()
    index = flat.open({}, flat.spec(Metric.MANHATTAN, 16, {}), vectors)
    (point,) = calibrate(index, vectors, Metric.MANHATTAN, efforts=flat.efforts(index.spec))
    assert (point.effort, point.recall) == (0, 1.0)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_vectors_can_be_calibrated(count):
    vectors = clustered(5, 16, SEED)[:count]
    flat = FlatBuilder()
    index = flat.open({}, flat.spec(Metric.EUCLID, 16, {}), vectors)
    assert calibrate(index, vectors, Metric.EUCLID, efforts=())[0].recall == 1.0


def test_the_least_effort_that_reaches_the_recall():
    curve = [CurvePoint(16, 0.9, 1.0), CurvePoint(32, 0.97, 2.0), CurvePoint(64, 0.99, 3.0)]
    assert effort_for(curve, 0.95) == 32
    assert effort_for(curve, 0.99) == 64
    assert effort_for(curve, 0.999) is None


def test_held_out_queries_are_measured_as_they_are(tmp_path):
    vectors = clustered(6200, 32, SEED, centres=100, latent=16)
    builder = FaissHnswBuilder()
    spec = builder.spec(Metric.EUCLID, 32, {"m": 4, "ef_construction": 20})
    builder.build(vectors[:6000], spec, tmp_path, threads=1, progress=no_progress)
    index = builder.open({path.name: path for path in tmp_path.iterdir()}, spec, vectors[:6000])
    (point,) = calibrate(index, vectors[:6000], Metric.EUCLID, efforts=(32,), queries=vectors[6000:])
    true = exact_search(vectors[6000:], vectors[:6000], 10, Metric.EUCLID).rows
    assert point.recall == pytest.approx(recall_at(index.search(vectors[6000:], 10, effort=32).rows, true), abs=0.01)
