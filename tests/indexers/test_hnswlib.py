"""`hnswlib` keeps the promises of every index, and refuses files that are not its own. It is an extra."""

from __future__ import annotations

import shutil
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("hnswlib", reason="the extra `hnswlib` is not installed")

from indexers.hnswlib import FILE, HnswlibBuilder
from tests.conformance.index_suite import DIM, IndexSuite
from vss.errors import Code, VssError
from vss.types import Metric


class TestHnswlib(IndexSuite):
    builder = HnswlibBuilder()
    metrics = (Metric.COSINE, Metric.DOT, Metric.EUCLID)
    recall = 0.98

    @pytest.mark.parametrize("keep", [0.0, 0.00001, 0.5, 0.99])
    def test_a_cut_file_is_refused(self, case, metric, tmp_path, keep):
        _, vectors, _, folder = case
        whole = (folder / FILE).read_bytes()
        (tmp_path / FILE).write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(VssError) as caught:
            self.open(vectors, metric, tmp_path)
        assert caught.value.code is Code.CORRUPT

    def test_a_file_of_other_vectors_is_refused(self, case, metric):
        _, vectors, _, folder = case
        with pytest.raises(VssError, match="points") as caught:
            self.open(vectors[:-1], metric, folder)
        assert caught.value.code is Code.CORRUPT

    def test_a_missing_file_is_named(self, case, metric, tmp_path):
        _, vectors, _, _ = case
        with pytest.raises(VssError, match=FILE) as caught:
            self.open(vectors, metric, tmp_path)
        assert caught.value.code is Code.CORRUPT

    @pytest.mark.parametrize("field", range(11))
    def test_every_number_of_the_header_is_checked(self, built, tmp_path, field):
        """All but the factor that only building reads."""
        vectors, _, folder = built[Metric.EUCLID]
        shutil.copy(folder / FILE, tmp_path / FILE)
        head = struct.Struct("<6QiI3QdQ")
        with (tmp_path / FILE).open("r+b") as file:
            values = list(head.unpack(file.read(head.size)))
            values[field] = 1 << 30
            file.seek(0)
            file.write(head.pack(*values))
        with pytest.raises(VssError) as caught:
            self.open(vectors, Metric.EUCLID, tmp_path)
        assert caught.value.code is Code.CORRUPT

    def test_searches_of_different_efforts_at_once_do_not_mix(self, case):
        index, _, queries, _ = case
        efforts = (10, 200)
        alone = [index.search(queries, 10, effort=effort).rows for effort in efforts]
        assert (alone[0] != alone[1]).any()
        with ThreadPoolExecutor(4) as pool:
            turns = list(pool.map(lambda turn: index.search(queries, 10, effort=efforts[turn % 2]).rows, range(60)))
        for turn, rows in enumerate(turns):
            np.testing.assert_array_equal(rows, alone[turn % 2])


@pytest.mark.parametrize(("name", "value"), [("m", 1), ("m", 16.5), ("ef_construction", 0)])
def test_a_parameter_out_of_range_is_named(name, value):
    with pytest.raises(VssError) as caught:
        HnswlibBuilder().spec(Metric.COSINE, DIM, {name: value})
    assert caught.value.field == name
