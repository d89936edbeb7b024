"""`coded` keeps the promises of every index; so does what grows row by row, at each moment."""

from typing import ClassVar

import numpy as np
import pytest

from indexers.native.coded import CodedBuilder
from indexers.native.growing import CodedGrowing
from indexers.registry import INDEXERS, native_compiled
from tests.conformance.data import clustered
from tests.conformance.index_suite import IndexSuite
from vss.distance import exact_search
from vss.recall import recall_at
from vss.types import Metric, Vectors
from vss.vectors import MAX_COMPONENT, as_vectors

METRICS = (Metric.COSINE, Metric.DOT, Metric.EUCLID)


class TestCoded(IndexSuite):
    builder = CodedBuilder()
    metrics = METRICS
    recall = 0.999
    params: ClassVar = {}


def recall_of(growing: CodedGrowing, vectors: Vectors, queries: Vectors, metric: Metric) -> float:
    found = growing.index(vectors).search(queries, 10)
    return recall_at(found.rows, exact_search(queries, vectors, 10, metric).rows)


@pytest.mark.parametrize("metric", METRICS)
def test_what_grows_finds_at_each_moment_what_is_there(metric: Metric) -> None:
    points = as_vectors(clustered(6_040, 48, 5, centres=60), 48, metric)
    queries, growing = points[6_000:], CodedGrowing(metric, 48)
    for count in (1, 10, 255, 256, 257, 600, 1_500, 2_047, 2_050, 5_000, 6_000):
        assert recall_of(growing, points[:count], queries, metric) >= 0.995, count


@pytest.mark.parametrize("metric", METRICS)
def test_codes_are_made_anew_for_later_rows_of_another_kind(metric: Metric) -> None:
    random = np.random.default_rng(3)
    first = clustered(2_000, 32, 1) * np.float32(0.01)
    later = clustered(4_040, 32, 2) * np.float32(50) + random.standard_normal(32).astype(np.float32)
    points = as_vectors(np.concatenate((first, later)), 32, metric)
    growing = CodedGrowing(metric, 32)
    before = growing.index(points[:2_000])
    answer = before.search(points[:5], 10)
    assert recall_of(growing, points[:6_000], points[6_000:], metric) >= 0.995
    assert np.array_equal(before.search(points[:5], 10).rows, answer.rows), "an index that was given has changed"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("times", "away"), [(1, 0), (0.01, 0), (50, 0), (0.01, 40), (30, 100)])
def test_what_begins_with_another_ones_codes_serves_whatever_comes(metric: Metric, times: float, away: float) -> None:
    before = CodedGrowing(metric, 32)
    before.index(as_vectors(clustered(2_000, 32, 1), 32, metric))
    later = as_vectors(clustered(2_040, 32, 2) * np.float32(times) + np.float32(away), 32, metric)
    growing = before.anew()
    for count in (300, 700, 2_000):
        # Where floats hardly tell the points apart nobody finds them all.
        least = min(0.995, recall_of(CodedGrowing(metric, 32), later[:count], later[2_000:], metric))
        assert recall_of(growing, later[:count], later[2_000:], metric) >= least, count


def test_what_was_there_earlier_may_be_asked_for_later() -> None:
    points, growing = clustered(1_540, 32, 5), CodedGrowing(Metric.EUCLID, 32)
    for count in (600, 1_500, 1_000, 550, 1_500):
        assert recall_of(growing, points[:count], points[1_500:], Metric.EUCLID) >= 0.995, count


@pytest.mark.parametrize("metric", METRICS)
def test_the_largest_vectors_that_are_taken_are_found(metric: Metric) -> None:
    points = as_vectors(clustered(2_020, 16, 9) * np.float32(MAX_COMPONENT / 10), 16, metric)
    assert recall_of(CodedGrowing(metric, 16), points[:2_000], points[2_000:], metric) >= 0.999


def test_the_registry_gives_codes_where_there_is_a_kernel() -> None:
    assert native_compiled()
    assert isinstance(INDEXERS.growing(Metric.COSINE, 8), CodedGrowing)
    assert INDEXERS.choose("scan", Metric.COSINE, 8, 256, {}).kind == "coded"
    assert INDEXERS.choose("scan", Metric.COSINE, 8, 255, {}).kind == "flat"
    assert INDEXERS.choose("scan", Metric.MANHATTAN, 8, 5_000, {}).kind == "flat"
