"""Rows in cells: what is looked through under a filter, how much of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("indexers.native._kernel")

from indexers.native import _kernel, cells
from indexers.native.builder import NativeBuilder
from indexers.native.index import Native
from vss.distance import exact_search
from vss.errors import Code, VssError
from vss.recall import recall_at
from vss.types import Hits, Mask, Metric, Vectors, no_progress
from vss.vectors import as_vectors

BUILDER = NativeBuilder()
COUNT, DIM, K = 4_000, 16, 10


def clustered(count: int, seed: int) -> Vectors:
    random = np.random.default_rng(3)
    middles = random.normal(size=(40, DIM)) * 2
    random = np.random.default_rng(seed)
    return (middles[random.integers(0, 40, count)] + random.normal(size=(count, DIM))).astype(np.float32)


def files_of(vectors: Vectors, metric: Metric, folder: Path) -> dict[str, Path]:
    folder.mkdir()
    BUILDER.build(vectors, BUILDER.spec(metric, DIM, {}), folder, threads=1, progress=no_progress)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LEAST_ROWS", 1_000)


@pytest.fixture(scope="module", params=[Metric.COSINE, Metric.DOT, Metric.EUCLID])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Native, Vectors, Vectors, Metric]:
    metric = request.param
    vectors = as_vectors(clustered(COUNT, 1), DIM, metric)
    queries = as_vectors(clustered(40, 2), DIM, metric)
    spec = BUILDER.spec(metric, DIM, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "LEAST_ROWS", 1_000)
        files = files_of(vectors, metric, tmp_path_factory.mktemp("cells") / "index")
    return BUILDER.open(files, spec, vectors), vectors, queries, metric


Probe = Callable[[Vectors, int, int], Hits]
"""Queries, k, and how many matching rows are looked at."""


def probes(index: Native, allow: Mask) -> list[Probe]:
    """The rows that match given as a mask, as a list, and gathered."""
    rows = np.flatnonzero(allow).astype(np.int32)
    gathered = index.gather(rows)
    return [
        lambda queries, k, budget: index.probe(queries, k, budget, allow),
        lambda queries, k, budget: index.probe(queries, k, budget, rows),
        gathered.search,
    ]


def test_looking_at_all_rows_is_a_scan(built: tuple[Native, Vectors, Vectors, Metric]) -> None:
    index, vectors, queries, metric = built
    allow = np.random.default_rng(5).random(COUNT) < 0.3
    true = exact_search(queries, vectors, K, metric, allow)
    for probe in probes(index, allow):
        hits = probe(queries, K, COUNT)
        assert hits.rows.tolist() == true.rows.tolist()
        assert np.allclose(hits.scores, true.scores, atol=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_the_rows_that_it_says_reach_the_recall(built: tuple[Native, Vectors, Vectors, Metric], share: float) -> None:
    index, vectors, queries, metric = built
    allow = np.random.default_rng(6).random(COUNT) < share
    looked = index.looked_at(0.98, int(allow.sum()), K)
    assert looked is not None
    assert looked < allow.sum()
    true = exact_search(queries, vectors, K, metric, allow).rows
    for probe in probes(index, allow):
        rows = probe(queries, K, looked).rows
        assert allow[rows].all()
        assert recall_at(rows, true) >= 0.93


def test_a_filter_that_contradicts_the_query_is_looked_through_further(
    built: tuple[Native, Vectors, Vectors, Metric],
) -> None:
    index, vectors, queries, metric = built
    recall = []
    for query in queries[:20]:
        order = exact_search(query[None], vectors, COUNT, metric).rows[0]
        far = np.zeros(COUNT, np.bool_)
        far[order[COUNT // 2 :]] = True
        true = exact_search(query[None], vectors, K, metric, far).rows
        looked = index.looked_at(0.98, int(far.sum()), K) or COUNT
        for probe in probes(index, far):
            rows = probe(query[None], K, looked).rows
            assert far[rows].all()
            recall.append(recall_at(rows, true))
        # A walk that comes back short goes on there.
        rows = index.search(query[None], K, allow=far, effort=12, looked=looked).rows
        assert far[rows].all()
        recall.append(recall_at(rows, true))
    assert np.mean(recall) >= 0.7


@pytest.mark.parametrize("matching", [0, 1, 3, 9])
def test_fewer_matching_rows_than_asked_for_are_all_found(
    built: tuple[Native, Vectors, Vectors, Metric], matching: int
) -> None:
    index, _, queries, _ = built
    allow = np.zeros(COUNT, np.bool_)
    allow[np.random.default_rng(7).choice(COUNT, matching, replace=False)] = True
    for probe in probes(index, allow):
        for row in probe(queries, K, 1).rows:
            assert sorted(row[row >= 0].tolist()) == np.flatnonzero(allow).tolist()


def test_more_are_looked_at_for_more_recall_more_rows_and_more_answers(
    built: tuple[Native, Vectors, Vectors, Metric],
) -> None:
    index = built[0]
    by_recall = [index.looked_at(recall, 1_000, K) for recall in (0.9, 0.95, 0.99)]
    by_rows = [index.looked_at(0.95, rows, K) for rows in (10, 100, 1_000, 4_000)]
    by_k = [index.looked_at(0.95, 1_000, k) for k in (1, 10, 50)]
    for found in (by_recall, by_rows, by_k):
        assert None not in found
        assert found == sorted(found, key=lambda one: one or 0)
    assert index.looked_at(0.9999, 1_000, K) is None


def test_a_mask_is_listed() -> None:
    random = np.random.default_rng(8)
    for count in (*range(70), 1_000, 40_000):
        mask = random.random(count) < random.random()
        assert _kernel.listed(mask).tolist() == np.flatnonzero(mask).tolist()


def cut(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array[:-1]


def beyond(array: NDArray[np.generic]) -> NDArray[np.generic]:
    array = array.copy()
    array[7] = 65_535
    return array


def unknown(array: NDArray[np.generic]) -> NDArray[np.generic]:
    array = array.copy()
    array[0, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cells", cut),
        ("cells", beyond),
        ("centres", unknown),
        ("centres", lambda array: array[:, 1:]),
        ("centres", lambda array: array[:0]),
        ("nearness", unknown),
        ("nearness", lambda array: array[:1]),
        ("nearness", lambda array: array[::-1].copy()),
    ],
)
def test_damaged_cells_are_refused(
    tmp_path: Path, name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    vectors = clustered(1_200, 1)
    files = files_of(vectors, Metric.EUCLID, tmp_path / "index")
    path = files[f"{name}.npy"]
    array = np.load(path)
    path.unlink()
    np.save(path, change(array))
    with pytest.raises(VssError) as raised:
        BUILDER.open(files, BUILDER.spec(Metric.EUCLID, DIM, {}), vectors)
    assert raised.value.code is Code.CORRUPT


def test_an_index_without_cells_or_with_a_part_of_them(tmp_path: Path) -> None:
    vectors = clustered(1_200, 1)
    spec = BUILDER.spec(Metric.EUCLID, DIM, {})
    files = files_of(vectors, Metric.EUCLID, tmp_path / "index")
    older = {name: path for name, path in files.items() if name.removesuffix(".npy") not in cells.FILES}
    index = BUILDER.open(older, spec, vectors)
    assert index.cells == 0
    assert index.looked_at(0.95, 100, K) is None
    allow: Mask = np.arange(1_200) % 3 == 0
    assert allow[index.search(vectors[:5], K, allow=allow, effort=20, looked=50).rows].all()
    with pytest.raises(VssError) as raised:
        BUILDER.open({name: path for name, path in files.items() if name != "cells.npy"}, spec, vectors)
    assert raised.value.code is Code.CORRUPT


def test_an_extended_index_has_cells_of_all_its_rows(tmp_path: Path) -> None:
    vectors = clustered(1_500, 1)
    spec = BUILDER.spec(Metric.EUCLID, DIM, {})
    files = files_of(vectors[:1_200], Metric.EUCLID, tmp_path / "index")
    (tmp_path / "more").mkdir()
    kept = np.arange(1_200)
    BUILDER.extend(files, spec, kept, vectors, tmp_path / "more", threads=1, progress=no_progress)
    index = BUILDER.open({path.name: path for path in (tmp_path / "more").iterdir()}, spec, vectors)
    late = np.arange(1_200, 1_500, dtype=np.int32)
    assert np.isin(index.probe(vectors[1_200:1_210], K, 100, late).rows, late).all()
