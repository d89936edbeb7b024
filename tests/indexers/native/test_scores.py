"""The arithmetic: every set of instructions that this processor has gives the same integers, and numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from indexers.native import _kernel
from tests.indexers.native.oracle import scores_of, small

KERNELS = _kernel.kernels()


def test_the_last_kernel_runs_everywhere() -> None:
    assert KERNELS[-1] == "portable"
    assert set(KERNELS) <= {"avx512vnni", "avx2", "neon", "portable"}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [0, 32, 64, 96, 160, 224, 416, 1_024, 4_096])
def test_products_of_codes_are_the_same_integers(kernel: str, stride: int) -> None:
    rng = np.random.default_rng(stride)
    query = rng.integers(-64, 65, stride).astype(np.int8)
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 33):
        codes = rng.integers(0, 256, (count, stride)).astype(np.uint8)
        found = _kernel.dots(codes, query, kernel)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, codes.astype(np.int64) @ query.astype(np.int64))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [32, 4_096, 65_536])
@pytest.mark.parametrize("component", [-64, 64])
def test_the_largest_products_do_not_overflow(kernel: str, stride: int, component: int) -> None:
    codes = np.full((5, stride), 255, np.uint8)
    query = np.full(stride, component, np.int8)
    np.testing.assert_array_equal(_kernel.dots(codes, query, kernel), np.full(5, 255 * component * stride))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("measure", ["dot", "euclid"])
@pytest.mark.parametrize("form", ["u8", "f16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dim", [1, 3, 7, 9, 15, 17, 31, 33, 100, 384, 1_001])
def test_exact_scores_are_those_of_float64(kernel: str, measure: str, form: str, dtype: type, dim: int) -> None:
    rng = np.random.default_rng(dim)
    vectors, queries = (rng.normal(size=(count, dim)).astype(np.float32) for count in (19, 4))
    given = small(vectors, measure, form)
    vectors = vectors.astype(dtype)
    searcher = given.searcher(kernel, vectors=vectors)
    rows, scores = searcher.scan_range(queries, 19, 19, 0, 19)
    assert (np.sort(rows, axis=1) == np.arange(19)).all()
    true = np.take_along_axis(scores_of(queries, vectors, measure), rows, axis=1)
    # A product near zero is the difference of large sums: its error counts against their size.
    sizes = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors.astype(np.float32), axis=1)[rows]
    assert (np.abs(scores - true) <= 1e-5 * (np.abs(true) if measure == "euclid" else sizes)).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_half_floats_rank_by_their_values(kernel: str) -> None:
    """Subnormal, tiny and large halves: what the beam of one row keeps is the row with the best code."""
    values = np.array([6e-8, 5e-7, 6.1e-5, 1e-3, 0.5, 1.0, 2_048.0, 65_504.0], np.float16)
    for sign in (1, -1):
        vectors = (sign * values.astype(np.float32))[:, None]
        given = small(vectors, "dot", "f16")
        codes = np.zeros((len(values), 32), np.float16)
        codes[:, 0] = sign * values
        searcher = given.searcher(kernel, codes=codes, scale=1.0)
        for count in range(1, len(values) + 1):
            rows, scores = searcher.scan_range(np.ones((1, 1), np.float32), 1, 1, 0, count)
            wanted = count - 1 if sign == 1 else 0
            assert (rows[0, 0], scores[0, 0]) == (wanted, vectors[wanted, 0])


@pytest.mark.parametrize(
    ("codes", "query", "said"),
    [
        (np.zeros((2, 33), np.uint8), np.zeros(33, np.int8), "padded"),
        (np.zeros((2, 32), np.uint8), np.zeros(64, np.int8), "shapes"),
        (np.zeros(32, np.uint8), np.zeros(32, np.int8), "shapes"),
        (np.zeros((2, 65_568), np.uint8), np.zeros(65_568, np.int8), "too many components"),
        (np.zeros((2, 32), np.uint8), np.full(32, 65, np.int8), "-64 to 64"),
        (np.zeros((2, 32), np.uint8), np.full(32, -65, np.int8), "-64 to 64"),
    ],
)
def test_what_is_no_code_is_refused(codes: np.ndarray, query: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _kernel.dots(codes, query)


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot run the kernel sse1"):
        _kernel.dots(np.zeros((1, 32), np.uint8), np.zeros(32, np.int8), "sse1")
