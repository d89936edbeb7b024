"""What every index backend must do. A backend's test is a subclass that names its builder and what it promises."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from indexers.flat import FlatBuilder
from tests.conformance.data import clustered
from vss.distance import score_rows
from vss.errors import Code, VssError
from vss.protocols import Index, IndexBuilder
from vss.recall import recall_at
from vss.types import Hits, Mask, Metric, Vectors, no_progress
from vss.vectors import as_vectors

SEED = 11
COUNT, DIM, QUERIES, K = 8000, 32, 40, 10


class IndexSuite:
    """Inherit, and set the class variables; every test then runs under every metric that the backend has."""

    builder: ClassVar[IndexBuilder]
    metrics: ClassVar[tuple[Metric, ...]] = tuple(Metric)
    params: ClassVar[Mapping[str, int | float | str]] = {}
    recall: ClassVar[float] = 1.0
    """recall@10 at the default effort that the backend promises on clustered data."""

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[Metric, tuple[Vectors, Vectors, Path]]:
        """For each metric: read-only vectors, held-out read-only queries, and the folder the index was built into."""
        made = {}
        for metric in cls.metrics:
            points = as_vectors(clustered(COUNT + QUERIES, DIM, SEED, centres=100, latent=16), DIM, metric)
            points.flags.writeable = False
            folder = tmp_path_factory.mktemp("index")
            cls.build(points[:COUNT], metric, folder)
            made[metric] = (points[:COUNT], points[COUNT:], folder)
        return made

    @classmethod
    def build(cls, vectors: Vectors, metric: Metric, folder: Path) -> None:
        """Build with this suite's parameters."""
        spec = cls.builder.spec(metric, vectors.shape[1], cls.params)
        cls.builder.build(vectors, spec, folder, threads=2, progress=no_progress)

    @classmethod
    def open(cls, vectors: Vectors, metric: Metric, folder: Path) -> Index:
        """Open what `build` wrote."""
        files = {path.name: path for path in folder.iterdir()}
        return cls.builder.open(files, cls.builder.spec(metric, vectors.shape[1], cls.params), vectors)

    @pytest.fixture(params=list(Metric))
    def metric(self, request: pytest.FixtureRequest) -> Metric:
        if request.param not in self.metrics:
            pytest.skip(f"{self.builder.kind} refuses {request.param}")
        metric: Metric = request.param
        return metric

    @pytest.fixture
    def case(
        self, built: dict[Metric, tuple[Vectors, Vectors, Path]], metric: Metric
    ) -> tuple[Index, Vectors, Vectors, Path]:
        vectors, queries, folder = built[metric]
        return self.open(vectors, metric, folder), vectors, queries, folder

    def truth(self, vectors: Vectors, queries: Vectors, metric: Metric, k: int, allow: Mask | None = None) -> Hits:
        """The answer of `flat`."""
        flat = FlatBuilder()
        return flat.open({}, flat.spec(metric, DIM, {}), vectors).search(queries, k, allow=allow)

    def check(self, hits: Hits, vectors: Vectors, queries: Vectors, metric: Metric, k: int, available: int) -> None:
        """The shape, order, padding and scores that any answer has."""
        assert hits.rows.shape == hits.scores.shape == (len(queries), k)
        assert hits.rows.dtype == np.int64
        assert hits.scores.dtype == np.float32
        full = min(k, available)
        assert (hits.rows[:, :full] >= 0).all(), "fewer rows than there are"
        assert (hits.rows[:, full:] == -1).all()
        assert (hits.scores[:, full:] == -np.inf).all()
        assert (np.diff(hits.scores[:, :full], axis=1) <= 0).all(), "not best first"
        assert all(len(set(line)) == full for line in hits.rows[:, :full].tolist()), "a row twice"
        exact = score_rows(queries, vectors, hits.rows, metric)
        np.testing.assert_allclose(hits.scores[:, :full], exact[:, :full], rtol=1e-4, atol=1e-4)

    def test_finds_the_neighbours_that_flat_finds(self, case, metric):
        index, vectors, queries, _ = case
        hits = index.search(queries, K)
        self.check(hits, vectors, queries, metric, K, COUNT)
        assert recall_at(hits.rows, self.truth(vectors, queries, metric, K).rows) >= self.recall, f"seed {SEED}"

    def test_more_effort_finds_at_least_as_much(self, case, metric):
        index, vectors, queries, _ = case
        true = self.truth(vectors, queries, metric, K).rows
        efforts = self.builder.efforts(index.spec)
        assert list(efforts) == sorted(set(efforts))
        if efforts:
            least = recall_at(index.search(queries, K, effort=efforts[0]).rows, true)
            most = recall_at(index.search(queries, K, effort=efforts[-1]).rows, true)
            assert most >= max(least, 0.999), f"seed {SEED}"

    def test_a_stored_vector_is_its_own_nearest(self, case, metric):
        index, vectors, _, _ = case
        if metric is Metric.DOT:
            pytest.skip("a longer vector may score higher than the vector itself")
        rows = np.arange(0, COUNT, 50)
        hits = index.search(vectors[rows], 1)
        assert (hits.rows[:, 0] == rows).mean() >= self.recall, f"seed {SEED}"
        best = 1.0 if metric is Metric.COSINE else 0.0
        own = hits.rows[:, 0] == rows
        np.testing.assert_allclose(hits.scores[own, 0], best, atol=1e-5)

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_a_mask_is_obeyed_and_costs_no_recall(self, case, metric, part):
        index, vectors, queries, _ = case
        allow = np.random.default_rng(SEED).random(COUNT) < part
        allow.flags.writeable = False
        hits = index.search(queries, K, allow=allow)
        self.check(hits, vectors, queries, metric, K, int(allow.sum()))
        assert allow[hits.rows].all()
        assert recall_at(hits.rows, self.truth(vectors, queries, metric, K, allow).rows) >= self.recall

    @pytest.mark.parametrize("part", [0.6, 0.95])
    def test_a_mask_that_leaves_out_the_surroundings_costs_no_recall(self, case, metric, part):
        index, vectors, queries, _ = case
        order = self.truth(vectors, queries[:5], metric, COUNT).rows
        for query, rows in zip(queries[:5], order, strict=True):
            allow = np.zeros(COUNT, dtype=np.bool_)
            allow[rows[-int(COUNT * part) :]] = True
            hits = index.search(query[None], K, allow=allow)
            self.check(hits, vectors, query[None], metric, K, int(COUNT * part))
            assert recall_at(hits.rows, self.truth(vectors, query[None], metric, K, allow).rows) == 1.0

    def test_a_mask_of_one_row_gives_that_row(self, case, metric):
        index, vectors, queries, _ = case
        allow = np.zeros(COUNT, dtype=np.bool_)
        allow[1234] = True
        hits = index.search(queries, 3, allow=allow)
        self.check(hits, vectors, queries, metric, 3, 1)
        assert (hits.rows[:, 0] == 1234).all()

    def test_a_mask_of_no_row_gives_nothing(self, case, metric):
        index, vectors, queries, _ = case
        hits = index.search(queries, 3, allow=np.zeros(COUNT, dtype=np.bool_))
        self.check(hits, vectors, queries, metric, 3, 0)

    def test_a_batch_answers_what_its_queries_answer_alone(self, case):
        index, _, queries, _ = case
        batch = index.search(queries, K)
        for row in range(len(queries)):
            alone = index.search(queries[row : row + 1], K)
            np.testing.assert_array_equal(alone.rows[0], batch.rows[row])
            np.testing.assert_array_equal(alone.scores[0], batch.scores[row])

    def test_k_above_the_number_of_rows_gives_them_all(self, case, metric):
        index, vectors, queries, _ = case
        self.check(index.search(queries[:2], COUNT + 5), vectors, queries[:2], metric, COUNT + 5, COUNT)

    def test_effort_below_k_still_gives_k(self, case, metric):
        index, vectors, queries, _ = case
        self.check(index.search(queries, 100, effort=1), vectors, queries, metric, 100, COUNT)

    def test_no_k_and_no_query_are_answered_with_empty_arrays(self, case):
        index, _, queries, _ = case
        assert index.search(queries, 0).rows.shape == (QUERIES, 0)
        assert index.search(queries[:0], K).scores.shape == (0, K)

    def test_queries_in_any_memory_order_are_read_and_not_written(self, case):
        index, _, queries, _ = case
        expected = index.search(queries, K)
        turned = np.asfortranarray(queries)
        before = turned.copy()
        np.testing.assert_array_equal(index.search(turned, K).rows, expected.rows)
        np.testing.assert_array_equal(turned, before)

    def test_threads_search_at_once_and_agree(self, case):
        index, _, queries, _ = case
        allow = np.random.default_rng(SEED).random(COUNT) < 0.9

        def ask(turn: int) -> Hits:
            return index.search(queries, K, allow=allow if turn % 2 else None)

        alone = [ask(0), ask(1)]
        with ThreadPoolExecutor(4) as pool:
            for turn, hits in enumerate(pool.map(ask, range(40))):
                np.testing.assert_array_equal(hits.rows, alone[turn % 2].rows)

    def test_copied_files_and_mapped_vectors_give_the_same_answers(self, case, metric, tmp_path):
        index, vectors, queries, folder = case
        shutil.copytree(folder, tmp_path / "copy")
        np.save(tmp_path / "vectors.npy", vectors)
        mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
        again = self.open(mapped, metric, tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")
        assert again.spec == index.spec
        assert len(again) == len(index) == COUNT
        np.testing.assert_array_equal(again.search(queries, K).rows, index.search(queries, K).rows)

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_very_few_vectors(self, metric, count, tmp_path):
        points = as_vectors(clustered(5, DIM, SEED), DIM, metric)
        self.build(points[:count], metric, tmp_path)
        hits = self.open(points[:count], metric, tmp_path).search(points[3:], 2)
        self.check(hits, points[:count], points[3:], metric, 2, count)

    def test_equal_vectors_are_all_found(self, metric, tmp_path):
        points = as_vectors(np.repeat(clustered(50, DIM, SEED), 60, axis=0), DIM, metric)
        self.build(points, metric, tmp_path)
        index = self.open(points, metric, tmp_path)
        if metric is not Metric.DOT:
            hits = index.search(points[600:601], 5, effort=128)
            assert set(hits.rows[0].tolist()) <= set(range(600, 660))

    def test_progress_adds_up_to_the_number_of_vectors(self, metric, tmp_path):
        seen: list[int] = []
        spec = self.builder.spec(metric, DIM, self.params)
        vectors = as_vectors(clustered(3000, DIM, SEED), DIM, metric)
        self.builder.build(vectors, spec, tmp_path, threads=1, progress=seen.append)
        assert sum(seen) == 3000

    def test_the_spec_names_its_kind_and_builds_the_same_again(self, metric):
        spec = self.builder.spec(metric, DIM, self.params)
        assert (spec.kind, spec.metric, spec.dim) == (self.builder.kind, metric, DIM)
        assert self.builder.spec(metric, DIM, spec.params) == spec

    def test_an_unknown_parameter_is_named(self, metric):
        with pytest.raises(VssError, match="colour") as caught:
            self.builder.spec(metric, DIM, {"colour": 1})
        assert caught.value.code is Code.INVALID

    def test_a_metric_it_does_not_have_is_refused_with_a_hint(self):
        for metric in set(Metric) - set(self.metrics):
            with pytest.raises(VssError, match=str(metric)) as caught:
                self.builder.spec(metric, DIM, {})
            assert "flat" in (caught.value.hint or "")

    def test_vectors_of_another_dimension_are_refused_at_open(self, case, metric):
        _, vectors, _, folder = case
        spec = self.builder.spec(metric, DIM, self.params)
        files = {path.name: path for path in folder.iterdir()}
        with pytest.raises(VssError) as caught:
            self.builder.open(files, spec, np.ascontiguousarray(vectors[:, :-1]))
        assert caught.value.code is Code.CORRUPT

    def test_searching_after_close_is_an_error(self, case):
        index, _, queries, _ = case
        index.close()
        with pytest.raises(VssError, match="closed"):
            index.search(queries, K)
