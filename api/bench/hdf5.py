"""Reads the files of ann-benchmarks (https://github.com/erikbern/ann-benchmarks#data-sets).

HDF5 with `train` and `test`, the vectors and the queries; `neighbors` and `distances`, the 100 nearest of each query;
and an attribute `distance`: "angular", "euclidean" or "dot".
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from api.bench.dataset import Dataset, K
from vss.distance import score_rows
from vss.errors import Code, VssError, invalid
from vss.types import Metric, Rows, Vectors
from vss.vectors import as_vectors

_METRICS = {"angular": Metric.COSINE, "euclidean": Metric.EUCLID, "dot": Metric.DOT}

_TOLERANCE = 1e-3
"""Distances in the file and ours differ by less, relative to 1 or to the distance: float32 sums."""


def read(path: Path, queries: int | None = None) -> Dataset:
    """The file's vectors, its first `queries` queries (None: all), and its own neighbours as the truth.

    Raises VssError: NOT_FOUND, INVALID (not such a file), CORRUPT (its neighbours do not lie where it says).
    """
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in ("train", "test", "neighbors", "distances") if name not in file]
            distance = str(file.attrs.get("distance", ""))
            if missing or distance not in _METRICS:
                said = f"lacks {', '.join(missing)}" if missing else f"has the distance {distance!r}"
                raise invalid(
                    f"{path} {said}; wanted an ann-benchmarks file",
                    hint=f"train, test, neighbors, distances, and distance {', '.join(_METRICS)}",
                )
            train, test = np.asarray(file["train"]), np.asarray(file["test"][:queries])
            neighbors = np.asarray(file["neighbors"][:queries], dtype=np.int64)
            distances = np.asarray(file["distances"][:queries], dtype=np.float32)
    except FileNotFoundError as error:
        raise VssError(Code.NOT_FOUND, f"there is no file {path}") from error
    except OSError as error:
        raise invalid(f"got {path}, which is no HDF5 file: {error}") from error
    metric = _METRICS[distance]
    if train.ndim != 2 or test.ndim != 2:
        raise invalid(f"got train {train.shape} and test {test.shape} in {path}, wanted (n, dim)")
    if neighbors.shape != distances.shape or neighbors.shape[0] != len(test) or neighbors.shape[1] < K:
        raise invalid(
            f"got neighbors {neighbors.shape} and distances {distances.shape} in {path}, "
            f"wanted ({len(test)}, {K} or more)"
        )
    vectors = as_vectors(train, train.shape[1], metric, field="train")
    asked = as_vectors(test, train.shape[1], metric, field="test")
    true = np.ascontiguousarray(neighbors[:, :K])
    if true.min() < 0 or true.max() >= len(vectors):
        raise VssError(Code.CORRUPT, f"got the neighbor {true.max()} in {path}, which has {len(vectors)} vectors")
    _check(path, metric, asked, vectors, true, distances[:, :K])
    return Dataset(name=path.stem, metric=metric, vectors=vectors, queries=asked, true=true)


def _check(path: Path, metric: Metric, queries: Vectors, vectors: Vectors, true: Rows, distances: Vectors) -> None:
    """The neighbours lie where the file says, so the vectors are what they were and the metric is the one meant."""
    scores = score_rows(queries, vectors, true, metric)
    # "dot" has no one meaning between the files that there are.
    ours = {Metric.COSINE: 1 - scores, Metric.EUCLID: -scores}.get(metric)
    if ours is None:
        return
    off = np.abs(ours - distances) / np.maximum(1.0, np.abs(distances))
    if off.max() > _TOLERANCE:
        query, place = np.unravel_index(int(off.argmax()), off.shape)
        raise VssError(
            Code.CORRUPT,
            f"neighbor {place} of query {query} in {path} lies at {ours[query, place]:g}, "
            f"the file says {distances[query, place]:g}",
            hint="is its distance attribute right?",
        )
