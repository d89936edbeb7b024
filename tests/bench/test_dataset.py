"""Where vectors and queries come from: files, collections, and the truth that they are measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from api.bench.dataset import Dataset, K, collected, from_npy, with_truth
from api.bench.hdf5 import read
from indexers.registry import INDEXERS
from tests.conformance.data import clustered
from vss.distance import exact_search
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.points import Point
from vss.schema import DEFAULT_VECTOR, Schema, VectorSchema
from vss.storage.datadir import DataDir
from vss.types import Metric, Vectors
from vss.vectors import normalised


def write_hdf5(path: Path, **changed: Any) -> tuple[Vectors, Vectors]:
    """An ann-benchmarks file of 300 vectors and 20 queries under "angular"; None leaves a member out."""
    rows = clustered(320, 16)
    train, test = rows[:300], rows[300:]
    unit, asked = normalised(train).astype(np.float64), normalised(test).astype(np.float64)
    distances = 1 - asked @ unit.T
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :100]
    members = {
        "train": train,
        "test": test,
        "neighbors": nearest.astype(np.int32),
        "distances": np.take_along_axis(distances, nearest, axis=1).astype(np.float32),
        "distance": "angular",
    } | changed
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = members.pop("distance")
        for name, values in members.items():
            if values is not None:
                file[name] = values
    return train, test


def test_an_ann_benchmarks_file_is_read_with_its_own_truth(tmp_path: Path) -> None:
    train, test = write_hdf5(tmp_path / "small-16-angular.hdf5")
    data = read(tmp_path / "small-16-angular.hdf5")
    assert (data.name, data.metric) == ("small-16-angular", Metric.COSINE)
    np.testing.assert_array_equal(data.vectors, normalised(train))
    np.testing.assert_array_equal(data.queries, normalised(test))
    assert data.true is not None
    np.testing.assert_array_equal(data.true, exact_search(data.queries, data.vectors, K, Metric.COSINE).rows)
    assert data.recall(data.true) == 1.0
    assert data.recall(data.true[:, ::-1] * 0 + np.arange(K)) < 0.5
    assert len(read(tmp_path / "small-16-angular.hdf5", 5).queries) == 5


def test_the_neighbours_of_the_file_are_the_truth_not_a_search_of_ours(tmp_path: Path) -> None:
    """What the file calls nearest is taken, though we would find others: here its 11th to 20th."""
    write_hdf5(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for name in ("neighbors", "distances"):
            values = file[name][:, 10:]
            del file[name]
            file[name] = values
        wanted = file["neighbors"][:, :K]
    data = with_truth(read(tmp_path / "a.hdf5"))
    np.testing.assert_array_equal(data.true, wanted)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"distance": "jaccard"}, "has the distance 'jaccard'"),
        ({"neighbors": None}, "lacks neighbors"),
        ({"neighbors": np.zeros((20, 3), np.int32), "distances": np.zeros((20, 3), np.float32)}, "got neighbors"),
        ({"neighbors": np.full((20, 10), 300), "distances": np.zeros((20, 10), np.float32)}, "got the neighbor 300"),
        ({"distance": "euclidean"}, "is its distance attribute right"),
        ({"test": np.zeros((20, 16), np.float32)}, "zero vector"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write_hdf5(tmp_path / "a.hdf5", **changed)
    with pytest.raises(VssError, match=said):
        read(tmp_path / "a.hdf5")


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(VssError, match="which is no HDF5 file"):
        read(tmp_path / "a.hdf5")
    with pytest.raises(VssError, match="there is no file"):
        read(tmp_path / "none.hdf5")


def test_queries_of_a_npy_are_held_out_by_the_seed(tmp_path: Path) -> None:
    rows = clustered(200, 8)
    np.save(tmp_path / "rows.npy", rows)
    data = from_npy(tmp_path / "rows.npy", Metric.EUCLID, None, 20, 3)
    again = from_npy(tmp_path / "rows.npy", Metric.EUCLID, None, 20, 3)
    other = from_npy(tmp_path / "rows.npy", Metric.EUCLID, None, 20, 4)
    assert (len(data.vectors), len(data.queries)) == (180, 20)
    together = {row.tobytes() for row in np.concatenate([data.vectors, data.queries])}
    assert together == {row.tobytes() for row in rows}, "every row is in one of the two"
    np.testing.assert_array_equal(again.queries, data.queries)
    assert not np.array_equal(other.queries, data.queries)
    assert len(from_npy(tmp_path / "rows.npy", Metric.EUCLID, 100, 20, 3).vectors) == 100


@pytest.mark.parametrize(
    ("array", "n", "said"),
    [
        (np.zeros(5, np.float32), None, "wanted \\(n, dim\\) numbers"),
        (np.ones((25, 4), np.float32), None, "got 25 vectors"),
        (np.ones((50, 4), np.float32), 40, "wanted 40 and 20 queries"),
        (np.full((50, 4), np.nan, np.float32), None, "nan"),
    ],
)
def test_a_npy_that_cannot_be_measured_is_refused(tmp_path: Path, array: Any, n: int | None, said: str) -> None:
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(VssError, match=said):
        from_npy(tmp_path / "rows.npy", Metric.EUCLID, n, 20, 3)


def test_a_collection_gives_what_it_holds_now(tmp_path: Path) -> None:
    rows = clustered(120, 8)
    engine = LocalEngine(DataDir(tmp_path / "data"), INDEXERS, writable=True)
    try:
        engine.create("c", Schema(vectors={DEFAULT_VECTOR: VectorSchema(dim=8, metric=Metric.EUCLID)}))
        points = [Point(id=row, vectors={DEFAULT_VECTOR: vector}) for row, vector in enumerate(rows)]
        engine.upsert("c", points).result()
        engine.remove("c", [0, 5]).result()
    finally:
        engine.close()
    data = collected(tmp_path / "data", "c", DEFAULT_VECTOR, INDEXERS, None, 18, 7)
    assert (data.name, data.metric, len(data.vectors), len(data.queries)) == ("c", Metric.EUCLID, 100, 18)
    found = {row.tobytes() for row in np.concatenate([data.vectors, data.queries])}
    assert found == {row.tobytes() for row in np.delete(rows, [0, 5], axis=0)}
    with pytest.raises(VssError, match="there is no data directory"):
        collected(tmp_path / "none", "c", DEFAULT_VECTOR, INDEXERS, None, 18, 7)


def test_a_row_found_twice_does_not_count_twice() -> None:
    rows = clustered(50, 4)
    data = with_truth(Dataset(name="d", metric=Metric.EUCLID, vectors=rows[:40], queries=rows[40:]))
    with pytest.raises(VssError, match="the same row twice"):
        data.recall(np.zeros((10, K), np.int64))
    none = np.full((10, K), -1, np.int64)
    assert data.recall(none) == 0.0
