"""Making a graph: the same for every number of threads and every kernel, and a walk through it finds the true best."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from indexers.native import _kernel
from tests.indexers.native.oracle import Array, best, encode, small

KERNELS = _kernel.kernels()


def builder(vectors: Array, form: str = "u8", entry: int = 0, kernel: str = "", **settings: Any) -> _kernel.Builder:
    scale = (100 if form == "u8" else 1) / float(np.abs(vectors).max(initial=1))
    squares = np.einsum("nd,nd->n", vectors, vectors).astype(np.float32)
    given: dict[str, Any] = {
        "codes": encode(vectors, form, scale),
        "dim": vectors.shape[1],
        "scale": scale,
        "extra": (-0.5 * squares).astype(np.float32),
        "base": squares,
        "entry": entry,
        "degree": 16,
        "width": 48,
        "alpha": 1.2,
    }
    return _kernel.Builder(**(given | settings), kernel=kernel)


def insert_all(made: _kernel.Builder, count: int, threads: int) -> Array:
    start = 0
    while start < count:
        end = min(count, start + max(1, min(start, count // 50)))
        made.insert(np.arange(start, end, dtype=np.int32), threads)
        start = end
    return made.finish(threads)


def blobs(count: int, dim: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(20, dim))
    return (middles[rng.integers(0, 20, count)] + 0.6 * rng.normal(size=(count, dim))).astype(np.float32)


def check(graph: Array, count: int, degree: int) -> None:
    assert graph.shape == (count, degree)
    assert graph.dtype == np.int32
    for row, edges in enumerate(graph):
        used = edges[: np.count_nonzero(edges >= 0)]
        assert (edges[len(used) :] == -1).all(), "an empty place before an edge"
        assert len(set(used.tolist())) == len(used), "an edge twice"
        assert row not in used
        assert (used < count).all()


@pytest.mark.parametrize("form", ["u8", "f16"])
def test_a_walk_through_it_finds_the_nearest(form: str) -> None:
    count = 3_000
    vectors, queries = blobs(count + 50, 40)[:count], blobs(count + 50, 40)[count:]
    graph = insert_all(builder(vectors, form, degree=32, width=128), count, 2)
    check(graph, count, 32)
    rows, _ = small(vectors, "euclid", form, graph).searcher().search(queries, 10, 64)
    wanted, _ = best(queries, vectors, "euclid", 10)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), wanted.tolist(), strict=True)])
    assert found >= 0.97


def test_threads_and_kernels_change_nothing() -> None:
    vectors = blobs(900, 33)
    wanted = insert_all(builder(vectors), 900, 1)
    for kernel in KERNELS:
        for threads in (1, 2, 5):
            np.testing.assert_array_equal(insert_all(builder(vectors, kernel=kernel), 900, threads), wanted)


@pytest.mark.parametrize("threads", [0, 10**6, 2**63])
def test_any_number_of_threads_is_taken(threads: int) -> None:
    vectors = blobs(300, 8)
    np.testing.assert_array_equal(insert_all(builder(vectors), 300, threads), insert_all(builder(vectors), 300, 1))


@pytest.mark.parametrize("count", [1, 2, 3, 70])
@pytest.mark.parametrize("degree", [1, 2, 3, 200])
@pytest.mark.parametrize("width", [1, 2, 2**63])
def test_few_rows_few_edges_and_no_width(count: int, degree: int, width: int) -> None:
    vectors = blobs(count, 5)
    check(insert_all(builder(vectors, degree=degree, width=width), count, 2), count, degree)


def test_rows_that_are_all_alike() -> None:
    vectors = np.repeat(blobs(1, 12), 500, axis=0)
    graph = insert_all(builder(vectors), 500, 2)
    check(graph, 500, 16)
    assert (graph[1:, 0] >= 0).all(), "a row leads nowhere"


def test_without_extra_near_is_a_large_product() -> None:
    vectors = blobs(400, 24)
    graph = insert_all(builder(vectors, extra=None, base=np.zeros(400, np.float32), alpha=1.0), 400, 2)
    check(graph, 400, 16)
    rows, _ = small(vectors, "dot", graph=graph).searcher().search(vectors[:30], 5, 100)
    wanted, _ = best(vectors[:30], vectors, "dot", 5)
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(rows.tolist(), wanted.tolist(), strict=True)]) >= 0.9


def test_a_batch_with_a_row_twice_changes_nothing() -> None:
    vectors = blobs(400, 10)
    made = builder(vectors)
    first, second = np.arange(200, dtype=np.int32), np.arange(200, 400, dtype=np.int32)
    made.insert(first, 2)
    for wrong in (
        np.concatenate((second, second[:1])),
        np.concatenate((second, first[7:8])),
        np.array([250, 250], np.int32),
        np.array([250, 400], np.int32),
        np.array([-1], np.int32),
        np.array([2**31 - 1], np.int32),
        second.reshape(2, 100),
    ):
        with pytest.raises(ValueError, match="rows"):
            made.insert(wrong, 2)
    made.insert(second, 2)
    clean = builder(vectors)
    clean.insert(first, 1)
    clean.insert(second, 1)
    np.testing.assert_array_equal(made.finish(2), clean.finish(1))


def test_nothing_inserted_and_finished_twice() -> None:
    made = builder(blobs(100, 10))
    made.insert(np.empty(0, np.int32), 2)
    assert (made.finish(2) == -1).all()
    made.insert(np.arange(100, dtype=np.int32), 2)
    np.testing.assert_array_equal(made.finish(2), made.finish(1))


def test_threads_that_insert_at_once_take_turns() -> None:
    count = 1_200
    made = builder(blobs(count, 16))
    made.insert(np.array([0], np.int32), 1)
    parts = np.array_split(np.arange(1, count, dtype=np.int32), 8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: made.insert(rows, 2), parts))
    graph = made.finish(2)
    check(graph, count, 16)
    assert (graph[:, 0] >= 0).all()


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_halves_that_are_no_numbers_break_no_order(value: float) -> None:
    vectors = blobs(600, 10)
    with np.errstate(over="ignore"):
        codes = encode(vectors, "f16", 1.0)
        codes[::2, 3] = value
    check(insert_all(builder(vectors, codes=codes, scale=1e-18, width=600), 600, 2), 600, 16)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"degree": 0}, "degree"),
        ({"degree": 1_025}, "degree"),
        ({"degree": 2**63}, "degree"),
        ({"width": 0}, "width"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": -1.0}, "alpha"),
        ({"entry": -1}, "entry"),
        ({"entry": 20}, "entry"),
        ({"dim": 33}, "padded"),
        ({"dim": 0}, "at least one"),
        ({"dim": 2**63}, "padded"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"base": np.zeros(19, np.float32)}, "base: wrong length"),
        ({"base": np.full(20, np.nan, np.float32)}, "base: .*finite"),
        ({"extra": np.zeros(21, np.float32)}, "extra: wrong length"),
        ({"extra": np.full(20, np.inf, np.float32)}, "extra: .*finite"),
        ({"extra": np.zeros(20)}, "extra: wanted float32"),
        ({"codes": np.zeros((0, 32), np.uint8)}, "base|extra|entry"),
        ({"codes": np.zeros((), np.uint8)}, "two dimensions"),
        ({"codes": np.zeros((20, 33), np.uint8)}, "padded"),
        ({"codes": np.zeros((20, 32), np.int8)}, "uint8 or float16"),
    ],
)
def test_what_cannot_be_built_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        builder(blobs(20, 10), **changed)
