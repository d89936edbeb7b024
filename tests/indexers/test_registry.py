"""The registry finds every backend, and says what to do about one that is not there."""

import sys

import numpy as np
import pytest

import indexers.native
from indexers.choose import FLAT_BELOW, choose
from indexers.registry import INDEXERS, builder, kinds
from tests.conformance.data import clustered
from vss.distance import exact_search
from vss.errors import Code, VssError
from vss.protocols import IndexSpec
from vss.schema import AUTO
from vss.types import Metric


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_has_a_builder_of_its_name(kind):
    if kind == "hnswlib":
        pytest.importorskip("hnswlib", reason="the extra `hnswlib` is not installed")
    assert builder(kind).kind == kind


def test_an_unknown_kind_is_told_the_known_ones():
    with pytest.raises(VssError, match="flat") as caught:
        builder("annoy")
    assert caught.value.code is Code.INVALID


@pytest.mark.parametrize(
    ("kind", "library", "said"),
    [
        ("faiss_hnsw", "faiss", "faiss-cpu"),
        ("faiss_ivf", "faiss", "faiss-cpu"),
        ("hnswlib", "hnswlib", "vss-service[hnswlib]"),
    ],
)
def test_a_missing_library_says_what_to_install(monkeypatch, kind, library, said):
    monkeypatch.delitem(sys.modules, f"indexers.{kind}", raising=False)
    monkeypatch.delitem(sys.modules, "indexers.faiss_io", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(VssError) as caught:
        builder(kind)
    assert caught.value.code is Code.UNAVAILABLE
    assert said in (caught.value.hint or "")


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("metric", list(Metric))
def test_auto_chooses_a_kind_that_has_the_metric(metric, native):
    assert choose(FLAT_BELOW - 1, metric, native=native) == "flat"
    large = choose(1_000_000, metric, native=native)
    assert large == ("flat" if metric is Metric.MANHATTAN else "native" if native else "faiss_hnsw")
    assert builder(large).spec(metric, 8, {}).metric is metric


def test_auto_takes_the_graph_that_knows_the_parameters():
    assert INDEXERS.choose(AUTO, Metric.COSINE, 8, 100_000, {"m": 24}).kind == "faiss_hnsw"
    assert INDEXERS.choose(AUTO, Metric.COSINE, 8, 100_000, {}).kind == "native"


class TestWithoutTheKernel:
    """What an installation without a compiler does."""

    @pytest.fixture(autouse=True)
    def _uncompiled(self, monkeypatch):
        for module in ("builder", "index", "quantise"):
            monkeypatch.delitem(sys.modules, f"indexers.native.{module}", raising=False)
            monkeypatch.delattr(indexers.native, module, raising=False)
        monkeypatch.delattr(indexers.native, "_kernel", raising=False)
        monkeypatch.setitem(sys.modules, "indexers.native._kernel", None)

    def test_auto_chooses_faiss(self):
        assert INDEXERS.choose(AUTO, Metric.COSINE, 8, 100_000, {}).kind == "faiss_hnsw"

    def test_asking_for_it_says_why_and_what_to_do(self):
        with pytest.raises(VssError, match="_kernel") as caught:
            INDEXERS.choose("native", Metric.COSINE, 8, 100_000, {})
        assert caught.value.code is Code.UNAVAILABLE
        assert "compiler" in (caught.value.hint or "")

    def test_what_another_machine_built_is_served_exactly(self):
        vectors = clustered(500, 8)
        spec = IndexSpec(kind="native", metric=Metric.EUCLID, dim=8, params={"degree": 32})
        index = builder("native").open({}, spec, vectors)
        truth = exact_search(vectors[:5], vectors, 3, Metric.EUCLID)
        np.testing.assert_array_equal(index.search(vectors[:5], 3, effort=10).rows, truth.rows)
