"""An index that grew out of another one is as good as one built anew, and knows no row that is gone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from indexers.native.builder import NativeBuilder
from tests.conformance.data import clustered
from vss.distance import exact_search, score_rows
from vss.errors import Code, VssError
from vss.protocols import Extender
from vss.recall import recall_at
from vss.types import Metric, Rows, Vectors, no_progress
from vss.vectors import as_vectors

COUNT, DIM, K, EFFORT, SEED = 3_000, 32, 10, 48, 11
BUILDER = NativeBuilder()
METRICS = (Metric.COSINE, Metric.DOT, Metric.EUCLID)


@cache
def points(metric: Metric) -> Vectors:
    """`COUNT` points, 300 queries, and what comes in later rounds."""
    return as_vectors(clustered(3 * COUNT + 300, DIM, SEED, centres=100, latent=16), DIM, metric)


def build(vectors: Vectors, metric: Metric, folder: Path) -> Path:
    folder.mkdir(parents=True)
    BUILDER.build(vectors, BUILDER.spec(metric, DIM, {}), folder, threads=2, progress=no_progress)
    return folder


def files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def extend(before: Path, kept: Rows, vectors: Vectors, metric: Metric, folder: Path) -> list[int]:
    """What it counted; a build counts one row first, an extension all that stay."""
    folder.mkdir(parents=True)
    seen: list[int] = []
    spec = BUILDER.spec(metric, DIM, {})
    BUILDER.extend(files(before), spec, kept, vectors, folder, threads=2, progress=seen.append)
    assert sum(seen) == len(vectors)
    return seen


def recall(folder: Path, vectors: Vectors, metric: Metric) -> float:
    """Of held-out queries; every answer names rows there are, with their scores."""
    queries = points(metric)[-300:]
    hits = BUILDER.open(files(folder), BUILDER.spec(metric, DIM, {}), vectors).search(queries, K, effort=EFFORT)
    assert hits.rows.min() >= 0
    np.testing.assert_allclose(hits.scores, score_rows(queries, vectors, hits.rows, metric), rtol=1e-4, atol=1e-4)
    return recall_at(hits.rows, exact_search(queries, vectors, K, metric).rows)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Metric, float], Path]:
    folder = tmp_path_factory.mktemp("built")
    return {
        (metric, part): build(points(metric)[: int(COUNT * part)], metric, folder / f"{metric}-{part}")
        for metric in METRICS
        for part in (0.5, 0.9, 0.99)
    }


def test_it_is_an_extender() -> None:
    assert isinstance(BUILDER, Extender)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("dead", [0, 0.1, 0.4])
def test_an_extended_index_finds_what_a_new_one_finds(
    built: dict[tuple[Metric, float], Path], metric: Metric, part: float, dead: float, tmp_path: Path
) -> None:
    size, before = int(COUNT * part), built[metric, part]
    kept = np.sort(np.random.default_rng(SEED).permutation(size)[: int(size * (1 - dead))])
    vectors = np.concatenate((points(metric)[kept], points(metric)[size:COUNT]))
    seen = extend(before, kept, vectors, metric, tmp_path / "extended")
    if dead == 0.4 or (part, dead) == (0.5, 0.1):
        assert seen[0] == 1, "too little stays; it should have been built anew"
    else:
        assert seen[0] == len(kept)
        copied = np.load(tmp_path / "extended" / "codes.npy")[: len(kept)]
        np.testing.assert_array_equal(copied, np.load(before / "codes.npy")[kept])
    fresh = recall(build(vectors, metric, tmp_path / "fresh"), vectors, metric)
    assert recall(tmp_path / "extended", vectors, metric) >= max(0.98, fresh - 0.005)


@pytest.mark.parametrize(
    "metric",
    [Metric.EUCLID, *(pytest.param(one, marks=pytest.mark.soak) for one in METRICS if one is not Metric.EUCLID)],
)
def test_twenty_rounds_of_replacing_and_deleting_wear_nothing_out(metric: Metric, tmp_path: Path) -> None:
    random, pool = np.random.default_rng(SEED), points(metric)[:-300]
    vectors, at = pool[:COUNT], COUNT
    folder = build(vectors, metric, tmp_path / "0")
    entries = set()
    for number in range(1, 21):
        # A twentieth is replaced, and as many are deleted; others come in their place.
        gone = COUNT // 10
        kept = np.sort(random.permutation(COUNT)[gone:])
        if number == 5:
            kept = np.setdiff1d(np.arange(COUNT), np.append(np.arange(gone - 1), np.load(folder / "entries.npy")))
        vectors = np.concatenate((vectors[kept], pool[at : at + COUNT - len(kept)]))
        at += COUNT - len(kept)
        assert extend(folder, kept, vectors, metric, tmp_path / str(number))[0] == len(kept)
        folder = tmp_path / str(number)
        entries.add(vectors[np.load(folder / "entries.npy")[0]].tobytes())
    assert len(entries) > 1, "the row that walks start from should have been deleted once"
    fresh = recall(build(vectors, metric, tmp_path / "fresh"), vectors, metric)
    assert recall(folder, vectors, metric) >= max(0.98, fresh - 0.005)


def test_new_rows_that_are_all_of_one_kind_find_each_other(
    built: dict[tuple[Metric, float], Path], tmp_path: Path
) -> None:
    metric, size = Metric.EUCLID, int(COUNT * 0.9)
    there = points(metric)[17] + 0.4 * points(metric)[size:COUNT]
    vectors = np.concatenate((points(metric)[:size], there)).astype(np.float32)
    assert extend(built[metric, 0.9], np.arange(size), vectors, metric, tmp_path / "extended")[0] == size
    index = BUILDER.open(files(tmp_path / "extended"), BUILDER.spec(metric, DIM, {}), vectors)
    hits = index.search(there, K, effort=EFFORT)
    assert recall_at(hits.rows, exact_search(there, vectors, K, metric).rows) >= 0.98


@pytest.mark.parametrize("scale", [50.0, 0.001])
def test_rows_that_the_codes_would_serve_badly_are_not_given_them(
    built: dict[tuple[Metric, float], Path], scale: float, tmp_path: Path
) -> None:
    """Far beyond what a byte reaches with the scale of before, or all in one step of it."""
    metric, size = Metric.EUCLID, int(COUNT * 0.9)
    vectors = points(metric)[:COUNT].copy()
    vectors[size:] *= scale
    assert extend(built[metric, 0.9], np.arange(size), vectors, metric, tmp_path / "extended")[0] == 1


def test_threads_change_nothing(built: dict[tuple[Metric, float], Path], tmp_path: Path) -> None:
    metric, size = Metric.COSINE, int(COUNT * 0.9)
    kept, vectors = np.arange(100, size), points(metric)[100:COUNT]
    spec, graphs = BUILDER.spec(metric, DIM, {}), []
    for threads in (1, 3):
        out = tmp_path / str(threads)
        out.mkdir()
        BUILDER.extend(files(built[metric, 0.9]), spec, kept, vectors, out, threads=threads, progress=no_progress)
        graphs.append(np.load(out / "graph.npy"))
    np.testing.assert_array_equal(*graphs)


def test_an_index_of_nothing_grows(tmp_path: Path) -> None:
    metric = Metric.COSINE
    before = build(points(metric)[:0], metric, tmp_path / "before")
    assert extend(before, np.empty(0, np.int64), points(metric)[:COUNT], metric, tmp_path / "extended")[0] == 1
    assert recall(tmp_path / "extended", points(metric)[:COUNT], metric) >= 0.98


def with_value(array: np.ndarray, at: object, value: object) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("graph", lambda a: with_value(a, (100, 3), len(a))),
        ("graph", lambda a: with_value(a, (100, 3), -2)),
        ("graph", lambda a: with_value(a, (100, 3), 2**31 - 1)),
        ("graph", lambda a: a.astype(np.int64)),
        ("graph", lambda a: a[:-1]),
        ("graph", lambda a: a[:, :-1].copy()),
        ("entries", lambda a: np.array([2**31 - 1], np.int32)),
        ("entries", lambda a: np.array([-1], np.int32)),
        ("entries", lambda a: a[:0]),
        ("entries", lambda a: a.astype(np.float64)),
        ("codes", lambda a: a.view(np.int8)),
        ("codes", lambda a: a[:, :-1].copy()),
        ("codes", lambda a: a[:-1]),
        ("scales", lambda a: with_value(a, 0, np.nan)),
        ("scales", lambda a: with_value(a, 0, 1e30)),
        ("scales", lambda a: a[:3]),
        ("centre", lambda a: a[:-1]),
        ("centre", lambda a: with_value(a, 3, np.inf)),
        ("extra", lambda a: a[:-1]),
        ("extra", lambda a: with_value(a, 5, np.nan)),
        ("extra", None),
        ("graph", None),
    ],
)
def test_files_that_are_no_such_index_are_refused(
    built: dict[tuple[Metric, float], Path], name: str, change: Any, tmp_path: Path
) -> None:
    metric, size = Metric.EUCLID, int(COUNT * 0.9)
    given = files(built[metric, 0.9])
    if change is None:
        del given[f"{name}.npy"]
    else:
        np.save(tmp_path / "changed.npy", change(np.load(given[f"{name}.npy"])))
        given[f"{name}.npy"] = tmp_path / "changed.npy"
    (tmp_path / "out").mkdir()
    with pytest.raises(VssError) as caught:
        BUILDER.extend(
            given,
            BUILDER.spec(metric, DIM, {}),
            np.arange(size),
            points(metric)[:COUNT],
            tmp_path / "out",
            threads=2,
            progress=no_progress,
        )
    assert caught.value.code is Code.CORRUPT


@pytest.mark.parametrize("kept", [[1, 1], [2, 1], [-1, 5], [5, 2_700], range(2_700)])
def test_rows_that_the_index_does_not_have_are_refused(built: dict[tuple[Metric, float], Path], kept: Any) -> None:
    with TemporaryDirectory() as folder, pytest.raises(VssError, match="kept"):
        extend(
            built[Metric.COSINE, 0.9],
            np.asarray(kept, np.int64),
            points(Metric.COSINE)[:100],
            Metric.COSINE,
            Path(folder) / "out",
        )
