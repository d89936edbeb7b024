"""The registry finds every backend, and says what to do about one that is not there."""

import sys

import pytest

from indexers.choose import FLAT_BELOW, choose
from indexers.registry import builder, kinds
from vss.errors import Code, VssError
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


@pytest.mark.parametrize("metric", list(Metric))
def test_auto_chooses_a_kind_that_has_the_metric(metric):
    assert choose(FLAT_BELOW - 1, metric) == "flat"
    large = choose(1_000_000, metric)
    assert large == ("flat" if metric is Metric.MANHATTAN else "faiss_hnsw")
    assert builder(large).spec(metric, 8, {}).metric is metric
