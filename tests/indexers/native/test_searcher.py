"""Searching: where all rows are looked at, the answers are numpy's, bit by bit, with every kernel."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexers.native import _kernel
from tests.indexers.native.oracle import Array, best, everyone, small, whole

KERNELS = _kernel.kernels()
FORMS = [(kernel, measure, form) for kernel in KERNELS for measure in ("dot", "euclid") for form in ("u8", "f16")]
DIMS = (1, 2, 31, 32, 33, 63, 65, 100, 1_000, 4_096)
HUGE = 2**63


@pytest.mark.parametrize(("kernel", "measure", "form"), FORMS)
@pytest.mark.parametrize("dim", DIMS)
def test_every_way_finds_the_true_best(kernel: str, measure: str, form: str, dim: int) -> None:
    count, k = 45, 7
    vectors, queries = whole(count, dim, seed=dim), whole(3, dim, seed=dim + 1)
    searcher = small(vectors, measure, form).searcher(kernel)
    wanted = best(queries, vectors, measure, k)
    for found in (
        searcher.search(queries, k, count),
        searcher.search(queries, k, HUGE),
        searcher.scan_range(queries, k, count, 0, count),
        searcher.scan(queries, k, HUGE, np.arange(count, dtype=np.int32)[::-1].copy()),
        searcher.scan_allowed(queries, k, HUGE, np.ones(count, np.bool_)),
        searcher.search_allowed(queries, k, count, HUGE, np.ones(count, np.bool_)),
    ):
        assert [one.dtype for one in found] == [np.int64, np.float32]
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize(("kernel", "measure", "form"), FORMS)
def test_a_part_of_the_rows(kernel: str, measure: str, form: str) -> None:
    count, dim, k = 83, 20, 6
    vectors, queries = whole(count, dim), whole(5, dim, seed=1)
    searcher = small(vectors, measure, form).searcher(kernel)
    rng = np.random.default_rng(5)
    for size in (0, 1, 4, 15, 16, 17, 50, 83):
        rows = rng.permutation(count)[:size].astype(np.int32)
        wanted = best(queries, vectors, measure, k, rows)
        np.testing.assert_equal(searcher.scan(queries, k, count, rows), wanted)
        first = (count - size) // 2
        wanted = best(queries, vectors, measure, k, np.arange(first, first + size))
        np.testing.assert_equal(searcher.scan_range(queries, k, count, first, size), wanted)
        allow = np.zeros(count, np.bool_)
        allow[rows] = True
        wanted = best(queries, vectors, measure, k, rows)
        np.testing.assert_equal(searcher.scan_allowed(queries, k, count, allow), wanted)
        np.testing.assert_equal(searcher.search_allowed(queries, k, count, count, allow), wanted)


@pytest.mark.parametrize("measure", ["dot", "euclid"])
@pytest.mark.parametrize("count", [90, 1_500])
def test_a_scan_scores_exactly_all_that_the_codes_cannot_tell_apart(measure: str, count: int) -> None:
    """All codes are the same: the best of them alone would be the first rows."""
    vectors, queries = whole(count, 12, seed=count), whole(5, 12, seed=2)
    given = small(vectors, measure, graph=np.zeros((count, 40), np.int32))
    searcher = given.searcher(codes=np.full_like(given.codes, 128), extra=None)
    some = np.random.default_rng(1).permutation(count)[: count // 2].astype(np.int32)
    mask = np.zeros(count, np.bool_)
    mask[some] = True
    np.testing.assert_equal(searcher.scan_range(queries, 7, 40, 0, count), best(queries, vectors, measure, 7))
    wanted = best(queries, vectors, measure, 7, some)
    np.testing.assert_equal(searcher.scan(queries, 7, 40, some), wanted)
    np.testing.assert_equal(searcher.scan_allowed(queries, 7, 40, mask), wanted)
    np.testing.assert_equal(searcher.search_allowed(queries, 7, 40, 40, mask), wanted)


@pytest.mark.parametrize("measure", ["dot", "euclid"])
def test_many_answers_of_a_scan_come_in_their_order(measure: str) -> None:
    """Few values, so that most scores are there many times."""
    vectors, queries = whole(3_000, 3, most=3), whole(2, 3, seed=1, most=3)
    searcher = small(vectors, measure, graph=np.zeros((3_000, 4), np.int32)).searcher()
    for k in (64, 65, 1_000, 2_999, 3_001):
        found = searcher.scan_range(queries, k, k, 0, 3_000)
        np.testing.assert_equal(found, best(queries, vectors, measure, k))


def test_a_mask_that_changes_while_it_is_read_gives_rows_of_the_index() -> None:
    """Callers may not do that; `make sanitize` says whether memory was kept to where one does."""
    vectors, mask = whole(20_000, 4), np.zeros(20_000, np.bool_)
    searcher = small(vectors, graph=np.zeros((20_000, 2), np.int32)).searcher()
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            mask[:] = True
            mask[:] = False

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            for _ in range(40):
                for rows, _ in (
                    searcher.search_allowed(vectors[:2], 5, 10, 10, mask),
                    searcher.scan_allowed(vectors[:2], 5, 10, mask),
                ):
                    assert ((rows >= -1) & (rows < 20_000)).all()
        finally:
            done.set()
        changing.result()


@pytest.mark.parametrize("form", ["u8", "f16"])
@pytest.mark.parametrize("measure", ["dot", "euclid"])
def test_a_centre_changes_no_answer(measure: str, form: str) -> None:
    vectors, queries = whole(60, 24) + 40, whole(4, 24, seed=9) + 40
    centre = np.full(24, 40, np.float32)
    about = small(vectors - centre, measure, form)
    extra = about.extra if measure == "euclid" else (vectors - centre) @ centre
    # Of the 20 best by codes the 5 best are right only where the centre and the extra stand for what they should.
    searcher = about.searcher(centre=centre, extra=extra.astype(np.float32), vectors=vectors)
    found = searcher.scan_range(queries, 5, 20, 0, 60)
    np.testing.assert_equal(found, best(queries, vectors, measure, 5))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_rows_and_the_rest_of_the_answer_is_empty(kernel: str, count: int) -> None:
    vectors, queries = whole(count, 5), whole(2, 5, seed=3)
    searcher = small(vectors, "euclid").searcher(kernel)
    wanted = best(queries, vectors, "euclid", 10)
    np.testing.assert_equal(searcher.search(queries, 10, 1), wanted)
    np.testing.assert_equal(searcher.scan_range(queries, 10, 0, 0, count), wanted)
    np.testing.assert_equal(searcher.search_allowed(queries, 10, 4, 0, np.ones(count, np.bool_)), wanted)


def test_nothing_is_asked_for() -> None:
    searcher = small(whole(30, 4)).searcher()
    mask = np.ones(30, np.bool_)
    none, some = np.empty((0, 4), np.float32), whole(3, 4)
    for queries, k in ((none, 5), (some, 0), (none, 0)):
        for width in (0, 1, 30, HUGE):
            for found in (
                searcher.search(queries, k, width),
                searcher.search_allowed(queries, k, width, width, mask),
                searcher.scan(queries, k, width, np.arange(30, dtype=np.int32)),
                searcher.scan_allowed(queries, k, width, mask),
                searcher.scan_range(queries, k, width, 0, 30),
            ):
                assert found[0].shape == found[1].shape == (len(queries), k)


def test_no_width_still_answers() -> None:
    vectors = whole(30, 4)
    rows, _ = small(vectors, "euclid").searcher().search(vectors[:1], 1, 0)
    assert rows.shape == (1, 1)
    assert rows[0, 0] >= 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_that_are_alike_come_in_their_order(kernel: str) -> None:
    vectors = np.repeat(whole(1, 12), 70, axis=0)
    searcher = small(vectors, "euclid").searcher(kernel)
    for rows, scores in (searcher.search(vectors[:2], 70, 70), searcher.scan_range(vectors[:2], 70, 70, 0, 70)):
        assert (rows == np.arange(70)).all()
        assert (scores == 0).all()


@pytest.mark.parametrize("measure", ["dot", "euclid"])
def test_every_kernel_walks_the_same_way(measure: str) -> None:
    """A narrow walk through a sparse graph, where one other integer would lead elsewhere."""
    count, dim, width = 3_000, 50, 24
    rng = np.random.default_rng(2)
    vectors, queries = (rng.normal(size=(size, dim)).astype(np.float32) for size in (count, 40))
    graph = rng.integers(0, count, (count, 12)).astype(np.int32)
    given = small(vectors, measure, graph=graph)
    allow = rng.random(count) < 0.5
    found = [
        [
            np.sort(searcher.search(queries, width, width)[0]),
            np.sort(searcher.search_allowed(queries, 24, 24, 24, allow)[0]),
        ]
        for searcher in map(given.searcher, KERNELS)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    met = [set(row) for row in found[0][0].tolist()]
    assert len(set.union(*met)) > width, "all walks ended in the same place"


def test_a_walk_follows_edges_until_the_first_empty_place() -> None:
    """0 -> 1 -> 2; behind the -1 of row 2 stands 3, which nothing else leads to."""
    vectors = whole(4, 6)
    graph = np.array([[1, -1, -1], [2, -1, 3], [-1, 3, 3], [0, 1, 2]], np.int32)
    searcher = small(vectors, graph=graph).searcher()
    rows, _ = searcher.search(vectors[:1], 4, 4)
    assert sorted(rows[0].tolist()) == [-1, 0, 1, 2]
    rows, _ = small(vectors, graph=graph).searcher(entries=np.array([3, 3, 0], np.int32)).search(vectors[:1], 4, 4)
    assert sorted(rows[0].tolist()) == [0, 1, 2, 3]


def test_a_graph_without_edges_has_only_its_entries() -> None:
    vectors = whole(9, 6)
    given = small(vectors, graph=np.empty((9, 0), np.int32))
    rows, _ = given.searcher(entries=np.array([4, 7], np.int32)).search(vectors[:1], 3, 9)
    assert sorted(rows[0].tolist()) == [-1, 4, 7]


def line(count: int) -> tuple[Array, Array]:
    """Points in a row, each linked to the one before it and the one behind it, but none to the last ten."""
    vectors = np.arange(count, dtype=np.float32)[:, None]
    graph = np.array([[max(row - 1, 0), min(row + 1, count - 11)] for row in range(count)], np.int32)
    return vectors, graph


def test_a_wide_filter_is_walked_and_a_narrow_one_scanned() -> None:
    """What no link leads to is only found by a scan, which looks at every allowed row."""
    vectors, graph = line(1_000)
    searcher = small(vectors, "euclid", "f16", graph=graph).searcher(entries=np.array([900], np.int32))
    wide = np.arange(1_000) % 2 == 1
    rows, _ = searcher.search_allowed(vectors[-1:], 5, 20, 40, wide)
    assert rows[0].tolist() == [989, 987, 985, 983, 981]
    narrow = np.arange(1_000) % 50 == 49
    rows, _ = searcher.search_allowed(vectors[-1:], 3, 20, 40, narrow)
    assert rows[0].tolist() == [999, 949, 899]


@pytest.mark.parametrize("near", [30, 200, 900])
def test_k_allowed_rows_are_found_where_none_is_near(near: int) -> None:
    """The walk grows wider until it has met enough, or gives way to the scan."""
    vectors, graph = line(1_000)
    searcher = small(vectors, "euclid", "f16", graph=graph).searcher()
    allow = np.arange(1_000) >= near
    rows, scores = searcher.search_allowed(vectors[:1], 5, 10, 40, allow)
    assert rows[0].tolist() == list(range(near, near + 5))
    assert scores[0].tolist() == [-float(row) for row in range(near, near + 5)]


def test_the_same_thread_alternates_between_indexes_of_different_sizes() -> None:
    """More walks than the marks of visited rows last, in one memory for both: no row is taken as met before."""
    sizes = (37, 150)
    made = [whole(count, 9, seed=count) for count in sizes]
    searchers = [small(vectors, "euclid").searcher() for vectors in made]
    queries = whole(350, 9, seed=4)
    wanted = [best(queries, vectors, "euclid", 4) for vectors in made]
    for at in range(len(queries)):
        for searcher, (rows, scores), count in zip(searchers, wanted, sizes, strict=True):
            found = searcher.search(queries[at : at + 1], 4, count)
            np.testing.assert_array_equal(found[0][0], rows[at])
            np.testing.assert_array_equal(found[1][0], scores[at])
            if at % 3 == 0:
                allowed = np.arange(at % 2, count, 2)
                mask = np.zeros(count, np.bool_)
                mask[allowed] = True
                filtered = searcher.search_allowed(queries[at : at + 1], 4, count, count, mask)
                vectors = made[sizes.index(count)]
                np.testing.assert_array_equal(filtered[0], best(queries[at : at + 1], vectors, "euclid", 4, allowed)[0])


def test_threads_at_once_get_their_own_answers() -> None:
    made = [whole(count, 40, seed=count) for count in (50, 90, 130)]
    searchers = [small(vectors, "euclid").searcher() for vectors in made]
    queries = whole(400, 40, seed=8)
    wanted = [best(queries, vectors, "euclid", 5) for vectors in made]

    def ask(turn: int) -> None:
        which = turn % len(made)
        found = searchers[which].search(queries, 5, 130)
        np.testing.assert_equal(found, wanted[which])
        found = searchers[which].scan_range(queries, 5, 130, 0, len(made[which]))
        np.testing.assert_equal(found, wanted[which])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(24)))


def test_arrays_that_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    vectors, queries = whole(50, 10), whole(3, 10, seed=2)
    given = small(vectors, "euclid")
    mapped = {}
    for name in ("codes", "extra", "graph", "entries", "vectors"):
        np.save(tmp_path / f"{name}.npy", getattr(given, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    searcher = given.searcher(**mapped)
    del mapped
    queries.flags.writeable = False
    rows = np.arange(50, dtype=np.int32)
    rows.flags.writeable = False
    np.testing.assert_equal(searcher.search(queries, 5, 50), best(queries, vectors, "euclid", 5))
    np.testing.assert_equal(searcher.scan(queries, 5, 50, rows), best(queries, vectors, "euclid", 5))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("measure", ["dot", "euclid"])
@pytest.mark.parametrize("form", ["u8", "f16"])
def test_a_query_that_is_not_finite_gets_rows_and_no_score(kernel: str, measure: str, form: str) -> None:
    vectors = whole(20, 6) + 20
    searcher = small(vectors, measure, form).searcher(kernel)
    for value in (np.nan, np.inf, -np.inf):
        queries = np.ones((1, 6), np.float32)
        queries[0, 3] = value
        for rows, scores in (searcher.search(queries, 20, 20), searcher.scan_range(queries, 20, 20, 0, 20)):
            assert sorted(rows[0].tolist()) == list(range(20))
            assert not np.isnan(scores).any()
            if np.isnan(value) or measure == "euclid":
                assert (scores == -np.inf).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-30, 1e18, 1e30, 3e38])
def test_queries_of_any_size_rank_the_same(kernel: str, size: float) -> None:
    """One axis: the order by codes is that of the components, however long the query is."""
    vectors = np.arange(1, 41, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    for form in ("u8", "f16"):
        searcher = small(vectors, "dot", form).searcher(kernel)
        queries = np.array([[size, 0]], np.float32)
        rows, scores = searcher.scan_range(queries, 40, 40, 0, 40)
        assert sorted(rows[0].tolist()) == list(range(40))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(scores[0], (queries[0, 0] * vectors[rows[0], 0]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_row_that_is_no_number_comes_last(kernel: str, dtype: type, value: float) -> None:
    vectors = whole(12, 8)
    given = small(vectors, "euclid")
    broken = vectors.astype(dtype)
    broken[5, 2] = value
    rows, scores = given.searcher(kernel, vectors=broken).search(vectors[5:6], 12, 12)
    assert rows[0, -1] == 5
    assert scores[0, -1] == -np.inf
    assert sorted(rows[0].tolist()) == list(range(12))


@pytest.mark.parametrize("kernel", KERNELS)
def test_half_floats_that_are_no_numbers_lose_no_row(kernel: str) -> None:
    vectors = whole(40, 8)
    given = small(vectors, "euclid", "f16")
    for value in (np.nan, np.inf, -np.inf):
        codes = given.codes.copy()
        codes[::3, 4] = value
        searcher = given.searcher(kernel, codes=codes)
        wanted = best(vectors[:5], vectors, "euclid", 6)
        np.testing.assert_equal(searcher.scan_range(vectors[:5], 6, 40, 0, 40), wanted)
        np.testing.assert_equal(searcher.search(vectors[:5], 6, 40), wanted)


def test_an_index_outlives_the_arrays_that_it_was_given() -> None:
    vectors = whole(200, 30)
    given = small(vectors, "euclid", graph=everyone(200))
    searcher = given.searcher()
    wanted = best(vectors[:3], vectors, "euclid", 4)
    queries = vectors[:3].copy()
    del given, vectors
    filler = [np.full((200, 30), 7, np.float32) for _ in range(50)]
    np.testing.assert_equal(searcher.search(queries, 4, 200), wanted)
    assert filler
