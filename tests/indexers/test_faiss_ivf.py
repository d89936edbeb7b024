"""`faiss_ivf` keeps the promises of every index, with each kind of code."""

from typing import ClassVar

import numpy as np
import pytest

from indexers.faiss_io import FILE
from indexers.faiss_ivf import FaissIvfBuilder
from tests.conformance.data import clustered
from tests.conformance.index_suite import DIM
from tests.indexers.faiss_suite import FaissSuite
from vss.errors import Code, VssError
from vss.recall import recall_at
from vss.types import Metric, no_progress
from vss.vectors import as_vectors


class IvfSuite(FaissSuite):
    builder = FaissIvfBuilder()
    recall = 0.98

    def test_a_file_of_another_number_of_lists_is_refused(self, built):
        vectors, _, folder = built[Metric.EUCLID]
        spec = self.builder.spec(Metric.EUCLID, DIM, {**self.params, "nlist": 7})
        with pytest.raises(VssError, match="lists") as caught:
            self.builder.open({FILE: folder / FILE}, spec, vectors)
        assert caught.value.code is Code.CORRUPT

    @pytest.mark.parametrize("count", [5, 40, 300])
    def test_few_points_are_indexed_and_found_without_a_warning(self, metric, count, tmp_path, capfd):
        vectors = as_vectors(clustered(count, DIM, 3), DIM, metric)
        self.build(vectors, metric, tmp_path)
        index = self.open(vectors, metric, tmp_path)
        truth = self.truth(vectors, vectors, metric, 1)
        # A scan would answer: ask the lists themselves.
        handle, _ = index._open
        hits = index._nearest(handle, vectors, 1, 4096)
        assert recall_at(hits.rows, truth.rows) >= 0.98
        assert capfd.readouterr() == ("", "")


class TestSq8(IvfSuite):
    params: ClassVar = {"storage": "sq8"}


class TestPq4(IvfSuite):
    params: ClassVar = {"storage": "pq"}


@pytest.mark.soak
class TestPq8(IvfSuite):
    """Trained for a minute, in which it shows little more than `TestPq4`."""

    params: ClassVar = {"storage": "pq", "bits": 8}


class TestRabitq1(IvfSuite):
    params: ClassVar = {"storage": "rabitq"}


class TestRabitq4(IvfSuite):
    params: ClassVar = {"storage": "rabitq", "bits": 4}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"storage": "float32"}, "storage"),
        ({"nlist": -1}, "nlist"),
        ({"storage": "pq", "bits": 5}, "bits"),
        ({"storage": "pq", "m": 5}, "m"),
        ({"storage": "sq8", "m": 8}, "m"),
        ({"storage": "sq8", "bits": 4}, "bits"),
        ({"rescore": True}, "rescore"),
    ],
)
def test_a_parameter_out_of_range_is_named(params, field):
    with pytest.raises(VssError) as caught:
        FaissIvfBuilder().spec(Metric.COSINE, DIM, params)
    assert caught.value.code is Code.INVALID
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("dim", "params", "m"),
    [(128, {}, 64), (128, {"bits": 8}, 32), (100, {"bits": 8}, 25), (97, {}, 97), (1, {}, 1), (96, {"m": 12}, 12)],
)
def test_the_codes_of_pq_divide_the_dimension(dim, params, m):
    assert FaissIvfBuilder().spec(Metric.EUCLID, dim, {"storage": "pq", **params}).params["m"] == m


@pytest.mark.parametrize(("storage", "most"), [("sq8", 32 + 8), ("rabitq", 4 + 8 + 8)])
def test_the_file_holds_codes_only(storage, most, tmp_path):
    builder, vectors = FaissIvfBuilder(), clustered(8000, DIM)
    spec = builder.spec(Metric.EUCLID, DIM, {"storage": storage})
    builder.build(vectors, spec, tmp_path, threads=2, progress=no_progress)
    centroids = 205 * DIM * 4
    assert (tmp_path / FILE).stat().st_size < len(vectors) * most + centroids + 20_000


def test_rescoring_deeper_finds_more_under_few_bits(tmp_path):
    builder, data = FaissIvfBuilder(), clustered(8100, 64, 5, centres=200)
    vectors, queries = data[:8000], np.ascontiguousarray(data[8000:])
    spec = builder.spec(Metric.EUCLID, 64, {"storage": "rabitq"})
    builder.build(vectors, spec, tmp_path, threads=2, progress=no_progress)
    found = []
    true = np.argsort(((queries[:, None] - vectors[None]) ** 2).sum(axis=2), axis=1)[:, :10]
    for rescore in (1, 4, 20):
        deeper = builder.spec(Metric.EUCLID, 64, {"storage": "rabitq", "rescore": rescore})
        index = builder.open({FILE: tmp_path / FILE}, deeper, vectors)
        found.append(recall_at(index.search(queries, 10, effort=128).rows, true))
    assert found[0] + 0.1 < found[1] < found[2]
    assert found[2] >= 0.97
