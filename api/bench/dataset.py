"""What is searched: vectors, the queries held out of them, and their true neighbours.

    drawn       one of the shapes of `api.bench.shapes`
    from_npy    a file of vectors
    collected   the vectors of a collection that is served or was imported
    with_truth  fills in the neighbours, by exact search, where the source names none
    hash_of     what a cache of built indexes goes by

ann-benchmarks files are read by `api.bench.hdf5`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from api.bench.shapes import SHAPES
from vss.distance import exact_search, score_rows
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError, invalid
from vss.protocols import Indexers
from vss.recall import recall_by_score
from vss.schema import DEFAULT_VECTOR
from vss.storage.datadir import DataDir
from vss.storage.segment import Segment
from vss.types import Metric, Progress, Rows, Vectors, no_progress
from vss.vectors import as_vectors

K = 10
"""Neighbours asked for."""

_TRUTH_QUERIES = 50
"""Queries of one exact search, between two calls of `progress`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Vectors `(n, dim)` and queries `(q, dim)` as they are stored: float32, of unit length under Cosine.

    name: as figures name it
    true: `(q, K)` rows of the nearest vectors, best first; None while they are not known
    source: `(n,)` where each vector stood in the file that it was read from; None where there was none
    """

    name: str
    metric: Metric
    vectors: Vectors
    queries: Vectors
    true: Rows | None = None
    source: Rows | None = None

    def recall(self, rows: Rows) -> float:
        """recall@K of `(q, j)` rows, by their distances: a row as near as the K-th true one counts, once."""
        assert self.true is not None
        order = np.sort(rows, axis=1)
        again = (order[:, 1:] == order[:, :-1]) & (order[:, 1:] >= 0)
        if again.any():
            raise VssError(Code.CORRUPT, "an index returned the same row twice")
        found = score_rows(self.queries, self.vectors, rows, self.metric)
        return recall_by_score(found, score_rows(self.queries, self.vectors, self.true, self.metric))


def drawn(name: str, n: int | None, queries: int, seed: int | None) -> Dataset:
    """A made-up shape; the last rows are the queries. n and seed: None takes the shape's own."""
    if name not in SHAPES:
        raise invalid(f"got the shape {name!r}, wanted one of {', '.join(SHAPES)}")
    shape = SHAPES[name]
    n = shape.n if n is None else n
    rows = as_vectors(
        shape.draw(n + queries, shape.seed if seed is None else seed), int(name.rpartition("-")[2]), shape.metric
    )
    return Dataset(name=name, metric=shape.metric, vectors=rows[:n], queries=rows[n:])


def from_npy(path: Path, metric: Metric, n: int | None, queries: int, seed: int) -> Dataset:
    """A `.npy` of `(rows, dim)` numbers; `queries` of its rows, chosen by the seed, are held out.

    n: takes only so many of the rows that are left. VssError: NOT_FOUND, INVALID.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise VssError(Code.NOT_FOUND, f"there is no file {path}") from error
    except (OSError, ValueError, EOFError) as error:
        raise invalid(f"got {path}, which NumPy cannot read: {error}", hint="save it with numpy.save") from error
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.number):
        raise invalid(f"got {rows.dtype} of shape {rows.shape} in {path}, wanted (n, dim) numbers")
    return _held_out(path.stem, as_vectors(rows, rows.shape[1], metric), metric, n, queries, seed)


def collected(
    data: Path, collection: str, vector_name: str, indexers: Indexers, n: int | None, queries: int, seed: int
) -> Dataset:
    """The vectors of a collection as it is now, live ones too; `queries` of them, chosen by the seed, are held out.

    Raises VssError: NOT_FOUND (no such folder or collection), INVALID.
    """
    if not (data / "catalog.db").is_file():
        raise VssError(Code.NOT_FOUND, f"there is no data directory {data}", hint="make one with vss index or vss demo")
    engine = LocalEngine(DataDir(data), indexers, writable=False)
    try:
        opened = engine.collection(collection)
        schema = opened.schema.vector(vector_name)
        found = []
        for part in opened.view().parts:
            alive = np.ones(len(part.body), np.bool_) if part.alive is None else part.alive
            if isinstance(part.body, Segment):
                one = part.body.vectors.get(vector_name)
                if one is not None:
                    found.append(one.vectors[alive if one.rows is None else alive[one.rows]])
            elif vector_name in part.body.vectors:
                live = part.body.vectors[vector_name]
                found.append(live.vectors[alive & live.has])
        rows = np.concatenate(found) if found else np.empty((0, schema.dim), np.float32)
    finally:
        engine.close()
    name = f"{collection}/{vector_name}" if vector_name != DEFAULT_VECTOR else collection
    return _held_out(name, rows, schema.metric, n, queries, seed)


def with_truth(data: Dataset, progress: Progress = no_progress) -> Dataset:
    """The same with its true neighbours; `progress` counts queries."""
    if data.true is not None:
        progress(len(data.queries))
        return data
    found = []
    for start in range(0, len(data.queries), _TRUTH_QUERIES):
        some = data.queries[start : start + _TRUTH_QUERIES]
        found.append(exact_search(some, data.vectors, K, data.metric).rows)
        progress(len(some))
    return replace(data, true=np.concatenate(found))


def hash_of(data: Dataset) -> str:
    """sha256 of the vectors, their shape and metric, in hexadecimal."""
    state = hashlib.sha256(f"{data.metric} {data.vectors.shape}\n".encode())
    for start in range(0, len(data.vectors), 65_536):
        state.update(np.ascontiguousarray(data.vectors[start : start + 65_536]).data)
    return state.hexdigest()


def _held_out(name: str, rows: Vectors, metric: Metric, n: int | None, queries: int, seed: int) -> Dataset:
    if len(rows) < queries + K or (n is not None and n + queries > len(rows)):
        wanted = f"{n:,} and {queries:,} queries" if n is not None else f"{queries:,} queries and {K} more"
        raise invalid(
            f"got {len(rows):,} vectors in {name}, wanted {wanted}", hint="ask for fewer --queries, or fewer --n"
        )
    chosen = np.zeros(len(rows), np.bool_)
    chosen[np.random.default_rng(seed).choice(len(rows), queries, replace=False)] = True
    return Dataset(
        name=name,
        metric=metric,
        vectors=np.ascontiguousarray(rows[~chosen][:n]),
        queries=np.ascontiguousarray(rows[chosen]),
        source=np.flatnonzero(~chosen)[:n],
    )
