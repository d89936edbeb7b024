"""Whatever a file or a caller brings, nothing is read out of bounds: it is refused with a name and a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from indexers.native import _kernel
from tests.indexers.native.oracle import Array, everyone, small, whole

COUNT, DIM = 20, 10


def misaligned(array: Array) -> Array:
    """The same values, one byte off."""
    room = np.zeros(array.nbytes + 1, np.uint8)
    odd = room[1:].view(array.dtype).reshape(array.shape)
    odd[...] = array
    return odd


def graph_with(value: int) -> Array:
    graph = everyone(COUNT)
    graph[11, 3] = value
    return graph


FLOATS = np.ones(COUNT, np.float32)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"measure": "cosine"}, "measure"),
        ({"graph": graph_with(COUNT)}, "graph: a row number is out of range"),
        ({"graph": graph_with(-2)}, "graph: a row number is out of range"),
        ({"graph": graph_with(2**31 - 1)}, "graph: a row number is out of range"),
        ({"graph": graph_with(-(2**31))}, "graph: a row number is out of range"),
        ({"graph": everyone(COUNT)[:-1]}, "graph: another number of rows"),
        ({"graph": everyone(COUNT).ravel()}, "graph"),
        ({"graph": misaligned(everyone(COUNT))}, "graph: not aligned"),
        ({"entries": np.empty(0, np.int32)}, "entries: there are none"),
        ({"entries": np.array([COUNT], np.int32)}, "entries: a row number is out of range"),
        ({"entries": np.array([-1], np.int32)}, "entries: a row number is out of range"),
        ({"entries": np.array([[0]], np.int32)}, "entries"),
        ({"entries": misaligned(np.array([0], np.int32))}, "entries: not aligned"),
        ({"vectors": np.ones((COUNT - 1, DIM), np.float32)}, "vectors: another number"),
        ({"vectors": np.ones((COUNT, 33), np.float32)}, "padded"),
        ({"vectors": np.ones((COUNT, 0), np.float32)}, "at least one"),
        ({"vectors": np.ones(COUNT, np.float32)}, "vectors: wanted two"),
        ({"vectors": misaligned(np.ones((COUNT, DIM), np.float32))}, "vectors: not aligned"),
        ({"vectors": misaligned(np.ones((COUNT, DIM), np.float16))}, "vectors: not aligned"),
        ({"vectors": np.ones((COUNT - 1, DIM), np.float16)}, "vectors: another number"),
        ({"codes": np.zeros((COUNT, 32), np.int8)}, "uint8 or float16"),
        ({"codes": np.zeros((COUNT, 32), np.float32)}, "uint8 or float16"),
        ({"codes": np.zeros((COUNT, 32), ">f2")}, "uint8 or float16"),
        ({"codes": np.zeros((COUNT, 40), np.uint8)}, "padded"),
        ({"codes": np.zeros((COUNT, 65_568), np.uint8)}, "too many components"),
        ({"codes": np.zeros((COUNT, 64), np.uint8)[:, ::2]}, "C order"),
        ({"codes": np.zeros((32, COUNT), np.uint8).T}, "C order"),
        ({"codes": np.zeros(COUNT, np.uint8)}, "two dimensions"),
        ({"codes": np.zeros((), np.uint8)}, "two dimensions"),
        ({"codes": misaligned(np.zeros((COUNT, 32), np.float16))}, "codes: not aligned"),
        ({"scale": 0.0}, "scale"),
        ({"scale": -1.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"scale": 1e-30}, "scale"),
        ({"scale": 1e30}, "scale"),
        ({"extra": FLOATS[:-1]}, "extra: wrong length"),
        ({"extra": FLOATS * np.nan}, "extra: holds what is not finite"),
        ({"extra": FLOATS * np.inf}, "extra: holds what is not finite"),
        ({"extra": np.ones(COUNT)}, "extra: wanted float32"),
        ({"extra": np.ones(2 * COUNT, np.float32)[::2]}, "extra: wanted float32 in C order"),
        ({"extra": misaligned(FLOATS)}, "extra: not aligned"),
        ({"centre": FLOATS[: DIM - 1]}, "centre: wrong length"),
        ({"centre": FLOATS[:DIM] * np.nan}, "centre: holds what is not finite"),
        ({"centre": "none"}, "centre: wanted float32"),
    ],
)
def test_no_index_is_made_of_it(changed: dict[str, Any], said: str) -> None:
    given = small(whole(COUNT, DIM), "euclid")
    with pytest.raises(ValueError, match=said):
        given.searcher(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"graph": everyone(COUNT).astype(np.int64)},
        {"graph": everyone(COUNT).astype(">i4")},
        {"graph": np.asfortranarray(everyone(COUNT))},
        {"graph": everyone(COUNT).tolist()},
        {"graph": None},
        {"entries": np.zeros(1, np.uint32)},
        {"vectors": np.ones((COUNT, DIM))},
        {"vectors": np.ones((COUNT, 2 * DIM), np.float32)[:, ::2]},
        {"vectors": np.ones((COUNT, 2 * DIM), np.float16)[:, ::2]},
        {"vectors": np.ones((COUNT, DIM), ">f2")},
        {"vectors": np.ones((COUNT, DIM), np.uint16)},
        {"vectors": None},
        {"codes": None},
        {"codes": [[0] * 32] * COUNT},
        {"scale": "1"},
    ],
)
def test_no_copy_is_made_of_what_has_another_type(changed: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        small(whole(COUNT, DIM), "euclid").searcher(**changed)


Ask = Callable[[_kernel.Searcher, Any], Any]
QUERIES = whole(3, DIM)
ROWS = np.arange(COUNT, dtype=np.int32)
MASK = np.ones(COUNT, np.bool_)
MOMENTS = np.ones((2, DIM), np.float32)
ASKS: dict[str, Ask] = {
    "search": lambda searcher, queries: searcher.search(queries, 5, 10),
    "search_allowed": lambda searcher, queries: searcher.search_allowed(queries, 5, 10, 10, MASK),
    "scan": lambda searcher, queries: searcher.scan(queries, 5, 10, ROWS),
    "scan_allowed": lambda searcher, queries: searcher.scan_allowed(queries, 5, 10, MASK),
    "scan_range": lambda searcher, queries: searcher.scan_range(queries, 5, 10, 0, COUNT),
    "scan_gathered": lambda searcher, queries: searcher.scan_gathered(queries, 5, 10, searcher.gather(ROWS, MOMENTS)),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_queries_of_another_shape_or_type_are_refused(ask: Ask) -> None:
    searcher = small(whole(COUNT, DIM)).searcher()
    for wrong in (
        QUERIES[0],
        QUERIES[:, :5].copy(),
        QUERIES[None],
        np.float32(1) * np.ones(()),
        np.ones((3, 11), "f4"),
    ):
        with pytest.raises((ValueError, TypeError)):
            ask(searcher, wrong)
    with pytest.raises(ValueError, match="queries: not aligned"):
        ask(searcher, misaligned(QUERIES))
    for other in (QUERIES.astype(np.float64), QUERIES[:, ::-1], np.asfortranarray(QUERIES), QUERIES.tolist(), None):
        with pytest.raises(TypeError):
            ask(searcher, other)


@pytest.mark.parametrize("k", [2**27, 2**40, 2**63, 2**64 - 1])
def test_more_answers_than_memory_are_refused(k: int) -> None:
    searcher = small(whole(COUNT, DIM)).searcher()
    for ask in (
        lambda: searcher.search(QUERIES, k, 10),
        lambda: searcher.search_allowed(QUERIES, k, 10, 10, MASK),
        lambda: searcher.scan(QUERIES, k, 10, ROWS),
        lambda: searcher.scan_allowed(QUERIES, k, 10, MASK),
        lambda: searcher.scan_range(QUERIES, k, 10, 0, COUNT),
    ):
        with pytest.raises(ValueError, match="k: more answers"):
            ask()


@pytest.mark.parametrize("wrong", [-1, 2**64, 1.5, "5", None])
def test_numbers_that_are_no_counts_are_refused(wrong: Any) -> None:
    searcher = small(whole(COUNT, DIM)).searcher()
    for ask in (
        lambda: searcher.search(QUERIES, wrong, 10),
        lambda: searcher.search(QUERIES, 5, wrong),
        lambda: searcher.scan_range(QUERIES, 5, 10, wrong, 1),
        lambda: searcher.scan_range(QUERIES, 5, 10, 0, wrong),
    ):
        with pytest.raises(TypeError):
            ask()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.array([0, COUNT], np.int32), "rows: a row number is out of range"),
        (np.array([-1, 0], np.int32), "rows: a row number is out of range"),
        (np.array([2**31 - 1], np.int32), "rows: a row number is out of range"),
        (ROWS.reshape(2, -1), "rows: wanted one dimension"),
        (misaligned(ROWS), "rows: not aligned"),
    ],
)
def test_rows_that_are_none_of_the_index_are_refused(rows: Array, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(whole(COUNT, DIM)).searcher().scan(QUERIES, 5, 10, rows)


@pytest.mark.parametrize(("first", "count"), [(0, 21), (20, 1), (21, 0), (2**63, 1), (1, 2**64 - 1), (2**63, 2**63)])
def test_a_range_beyond_the_index_is_refused(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="range: wanted rows of the index"):
        small(whole(COUNT, DIM)).searcher().scan_range(QUERIES, 5, 10, first, count)


def test_a_mask_of_another_length_or_type_is_refused() -> None:
    searcher = small(whole(COUNT, DIM)).searcher()
    for wrong in (MASK[:-1], np.ones(COUNT + 1, np.bool_), MASK.reshape(2, -1), np.ones((), np.bool_)):
        with pytest.raises(ValueError, match="allow: wrong length"):
            searcher.search_allowed(QUERIES, 5, 10, 10, wrong)
        with pytest.raises(ValueError, match="allow: wrong length"):
            searcher.scan_allowed(QUERIES, 5, 10, wrong)
    for other in (MASK.astype(np.uint8), np.ones(2 * COUNT, np.bool_)[::2], None):
        with pytest.raises(TypeError):
            searcher.search_allowed(QUERIES, 5, 10, 10, other)
        with pytest.raises(TypeError):
            searcher.scan_allowed(QUERIES, 5, 10, other)


def test_a_count_of_allowed_rows_only_says_how_far_to_look() -> None:
    searcher, mask = small(whole(COUNT, DIM)).searcher(), MASK.copy()
    mask[::3] = False
    wanted = searcher.search_allowed(QUERIES, 5, COUNT, COUNT, mask)
    right = searcher.search_allowed(QUERIES, 5, COUNT, COUNT, mask, counted=int(mask.sum()))
    np.testing.assert_equal(right, wanted)
    for wrong in range(COUNT + 1):
        rows, _ = searcher.search_allowed(QUERIES, 5, 4, 4, mask, counted=wrong)
        assert mask[rows[rows >= 0]].all()
    with pytest.raises(ValueError, match="counted: more rows than there are"):
        searcher.search_allowed(QUERIES, 5, 10, 10, mask, counted=COUNT + 1)


def test_any_byte_but_zero_in_a_mask_lets_a_row_through() -> None:
    searcher = small(whole(COUNT, DIM)).searcher()
    odd = np.full(COUNT, 255, np.uint8).view(np.bool_)
    np.testing.assert_equal(
        searcher.search_allowed(QUERIES, 5, COUNT, COUNT, odd), searcher.search_allowed(QUERIES, 5, COUNT, COUNT, MASK)
    )
    np.testing.assert_equal(
        searcher.scan_allowed(QUERIES, 5, COUNT, odd), searcher.scan_allowed(QUERIES, 5, COUNT, MASK)
    )
