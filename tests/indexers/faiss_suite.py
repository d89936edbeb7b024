"""What both FAISS backends must do beyond every index: refuse files that are not their own, leave threads alone."""

from __future__ import annotations

import faiss
import pytest

from indexers.faiss_io import FILE, METRICS
from tests.conformance.data import clustered
from tests.conformance.index_suite import DIM, IndexSuite
from vss.errors import Code, VssError
from vss.types import Metric, no_progress


class FaissSuite(IndexSuite):
    """Inherit as from `IndexSuite`."""

    metrics = tuple(METRICS)

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
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

    def test_a_file_of_another_metric_is_refused(self, built):
        vectors, _, folder = built[Metric.EUCLID]
        with pytest.raises(VssError, match="metric") as caught:
            self.open(vectors, Metric.DOT, folder)
        assert caught.value.code is Code.CORRUPT

    def test_the_build_leaves_the_thread_setting_as_it_was(self, metric, tmp_path):
        before = faiss.omp_get_max_threads()
        spec = self.builder.spec(metric, DIM, self.params)
        vectors = clustered(100, DIM)
        self.builder.build(vectors, spec, tmp_path, threads=before + 1, progress=no_progress)
        assert faiss.omp_get_max_threads() == before
