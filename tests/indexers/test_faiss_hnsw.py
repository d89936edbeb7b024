"""`faiss_hnsw` keeps the promises of every index, and refuses files that are not its own."""

from typing import ClassVar

import numpy as np
import pytest

from indexers.faiss_hnsw import FaissHnswBuilder
from indexers.faiss_io import FILE
from tests.conformance.data import clustered
from tests.conformance.index_suite import DIM
from tests.indexers.faiss_suite import FaissSuite
from vss.errors import Code, VssError
from vss.types import Metric, no_progress


class HnswSuite(FaissSuite):
    builder = FaissHnswBuilder()
    recall = 0.98


class TestFaissHnswFloat32(HnswSuite):
    params: ClassVar = {"storage": "float32"}

    def test_the_vectors_are_not_stored_a_second_time(self, case):
        _, vectors, _, folder = case
        links = 2 * 16 * 4 + 40  # ground level, and what a point's upper levels and offsets take on average
        assert (folder / FILE).stat().st_size < len(vectors) * links


class TestFaissHnswFp16(HnswSuite):
    params: ClassVar = {"storage": "fp16"}


class TestFaissHnswSq8(HnswSuite):
    params: ClassVar = {"storage": "sq8"}


@pytest.mark.parametrize(
    ("name", "value"), [("m", 1), ("m", 16.5), ("m", True), ("ef_construction", 0), ("storage", "int4")]
)
def test_a_parameter_out_of_range_is_named(name, value):
    with pytest.raises(VssError) as caught:
        FaissHnswBuilder().spec(Metric.COSINE, DIM, {name: value})
    assert caught.value.code is Code.INVALID
    assert caught.value.field == name


def test_the_default_parameters_stand_in_the_spec():
    spec = FaissHnswBuilder().spec(Metric.COSINE, DIM, {"m": 8})
    assert spec.params == {"m": 8, "ef_construction": 200, "storage": "float32"}


def test_a_search_under_way_survives_a_close(tmp_path):
    builder, vectors = FaissHnswBuilder(), clustered(4000, DIM)
    spec = builder.spec(Metric.EUCLID, DIM, {})
    builder.build(vectors, spec, tmp_path, threads=2, progress=no_progress)
    index = builder.open({FILE: tmp_path / FILE}, spec, np.load(_saved(tmp_path, vectors), mmap_mode="r"))
    graph, mapped = index._open
    index.close()
    del index
    assert (graph.search(np.ascontiguousarray(mapped[:50]), 1)[1][:, 0] == np.arange(50)).mean() > 0.95


def _saved(folder, vectors):
    np.save(folder / "vectors.npy", vectors)
    return folder / "vectors.npy"
