"""Going on from a graph: its links in new numbers, none to a row that is gone, every row within reach."""

from __future__ import annotations

import numpy as np
import pytest

from tests.indexers.native.oracle import Array, best, small
from tests.indexers.native.test_graph_builder import KERNELS, blobs, builder, check, insert_all

COUNT = 1_500


def numbers(gone: Array, count: int = COUNT) -> tuple[Array, Array]:
    """(the rows that stay, the new number of each row)."""
    kept = np.setdiff1d(np.arange(count), gone)
    rows = np.full(count, -1, np.int32)
    rows[kept] = np.arange(len(kept))
    return kept, rows


def test_where_nothing_is_gone_the_graph_stays_and_only_its_numbers_change() -> None:
    vectors = blobs(COUNT, 24)
    graph = insert_all(builder(vectors), COUNT, 2)
    rows = np.random.default_rng(2).permutation(COUNT).astype(np.int32)
    made = builder(vectors[np.argsort(rows)], entry=int(rows[0]))
    made.adopt(graph, rows, 2)
    np.testing.assert_array_equal(made.finish(2)[rows], np.where(graph < 0, -1, rows[graph]))


def test_links_to_rows_that_are_gone_become_links_to_what_they_led_to() -> None:
    vectors = blobs(COUNT + 60, 24)
    graph = insert_all(builder(vectors[:COUNT]), COUNT, 2)
    kept, rows = numbers(np.random.default_rng(1).permutation(np.arange(1, COUNT))[: COUNT // 4])
    left = vectors[kept]
    made = builder(left)
    made.adopt(graph, rows, 2)
    after = made.finish(2)
    check(after, len(kept), 16)
    queries = vectors[COUNT:]
    found, _ = small(left, "euclid", graph=after).searcher().search(queries, 10, 64)
    wanted, _ = best(queries, left, "euclid", 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]) >= 0.97


def test_threads_and_kernels_change_nothing() -> None:
    vectors = blobs(COUNT, 24)
    graph = insert_all(builder(vectors), COUNT, 2)
    kept, rows = numbers(np.arange(5, COUNT, 3))
    results = []
    for kernel in KERNELS:
        for threads in (1, 4):
            made = builder(vectors[kept], kernel=kernel)
            made.adopt(graph, rows, threads)
            results.append(made.finish(threads))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("stay", [0, 1, 2, 15])
def test_few_rows_stay(stay: int) -> None:
    vectors = blobs(300, 8)
    graph = insert_all(builder(vectors), 300, 1)
    rows = np.full(300, -1, np.int32)
    rows[:stay] = np.arange(stay)
    made = builder(vectors)
    made.adopt(graph, rows, 2)
    for row in range(stay, 300):
        made.insert(np.array([row], np.int32), 1)
    check(made.finish(2), 300, 16)


def test_a_graph_may_lead_in_circles_or_nowhere() -> None:
    vectors = blobs(100, 8)
    for graph in (
        np.full((100, 16), -1, np.int32),
        np.repeat(np.arange(100, dtype=np.int32)[:, None], 16, axis=1),
        np.zeros((100, 16), np.int32),
    ):
        made = builder(vectors)
        made.adopt(graph, numbers(np.arange(40, 60), 100)[1], 2)
        made.insert(np.arange(80, 100, dtype=np.int32), 2)
        check(made.finish(2), 100, 16)


@pytest.mark.parametrize(
    ("graph", "rows", "said"),
    [
        (np.full((50, 16), 50, np.int32), np.arange(50), "graph: a row number"),
        (np.full((50, 16), -2, np.int32), np.arange(50), "graph: a row number"),
        (np.zeros((50, 15), np.int32), np.arange(50), "graph: another degree"),
        (np.zeros(50, np.int32), np.arange(50), "graph: another degree"),
        (np.zeros((50, 16), np.int32), np.arange(49), "rows: another number"),
        (np.zeros((50, 16), np.int32), np.arange(51, 101), "rows: a row number"),
        (np.zeros((50, 16), np.int32), np.arange(-2, 48), "rows: a row number"),
        (np.zeros((50, 16), np.int32), np.arange(50) // 2, "rows: one is inserted already"),
    ],
)
def test_what_is_no_graph_of_those_rows_is_refused_and_changes_nothing(graph: Array, rows: Array, said: str) -> None:
    vectors = blobs(100, 8)
    made = builder(vectors)
    with pytest.raises(ValueError, match=said):
        made.adopt(graph, rows.astype(np.int32), 2)
    np.testing.assert_array_equal(insert_all(made, 100, 1), insert_all(builder(vectors), 100, 1))


def test_what_is_inserted_is_not_adopted_and_the_other_way_round() -> None:
    vectors, graph = blobs(100, 8), np.full((50, 16), -1, np.int32)
    made = builder(vectors)
    made.adopt(graph, np.arange(50, dtype=np.int32), 1)
    for again in (
        lambda: made.adopt(graph, np.arange(50, dtype=np.int32)[::-1].copy(), 1),
        lambda: made.insert(np.array([60, 7], np.int32), 1),
    ):
        with pytest.raises(ValueError, match="inserted already"):
            again()
    made.insert(np.arange(50, 100, dtype=np.int32), 1)
    check(made.finish(1), 100, 16)
