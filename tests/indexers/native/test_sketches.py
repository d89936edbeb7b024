"""Sketches: what they say of rows, that all instructions say the same, and that a scan finds no less by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from indexers.native import _kernel
from indexers.native.coded import CodedBuilder
from indexers.native.codes import FILES, MAYBE, read_arrays, searcher_of
from indexers.native.growing import CodedGrowing
from indexers.native.sketches import LEAST_ROWS, moments_of, sketch_bytes
from tests.indexers.native.oracle import best, clustered, small, whole
from vss.distance import exact_search
from vss.errors import Code, VssError
from vss.recall import recall_at
from vss.types import Metric
from vss.vectors import as_vectors

KERNELS = _kernel.kernels()
CHANGE, LEVELS = np.float32(0.9816), np.array([-1.510, -0.4528, 0.4528, 1.510], np.float32)
METRICS = (Metric.COSINE, Metric.DOT, Metric.EUCLID)


def sketched(codes: NDArray[np.uint8], dim: int, kernel: str = "") -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    moments = moments_of(codes, dim)
    blocks = np.zeros((-(-len(codes) // _kernel.BLOCK), sketch_bytes(dim)), np.uint8)
    _kernel.sketch(codes, 0, len(codes), moments, blocks, kernel)
    return blocks, moments


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dim", [1, 3, 4, 5, 31, 64, 130])
def test_a_sketch_is_the_nearest_level_of_each_component_and_a_factor(dim: int, kernel: str) -> None:
    codes = small(whole(70, dim, seed=dim), "dot").codes
    blocks, (mean, spread) = sketched(codes, dim, kernel)
    groups = -(-dim // 4)
    values = codes[:, :dim].astype(np.float32) - 128 - mean
    change = CHANGE * spread
    levels = (values >= -change).astype(int) + (values >= 0) + (values >= change)
    padded = np.zeros((70, 4 * groups), int)
    padded[:, :dim] = levels
    wanted = (padded.reshape(70, groups, 4) << (2 * np.arange(4))).sum(axis=2)
    said = (LEVELS[levels] * spread).astype(np.float64)
    product = (values * said).sum(axis=1)
    factors = np.where(product > 0, (values.astype(np.float64) ** 2).sum(axis=1) / np.where(product > 0, product, 1), 1)
    for row in range(70):
        block, at = blocks[row // _kernel.BLOCK], row % _kernel.BLOCK
        assert block[: groups * _kernel.BLOCK].reshape(groups, -1)[:, at].tolist() == wanted[row].tolist()
        (factor,) = block[groups * _kernel.BLOCK :].view(np.float32)[[at]]
        assert factor == pytest.approx(factors[row], rel=1e-4)


@pytest.mark.parametrize("dim", [20, 64, 130])
def test_every_processor_makes_the_same_sketches(dim: int) -> None:
    codes = small(whole(700, dim, seed=dim), "dot").codes
    first, *others = [sketched(codes, dim, kernel)[0] for kernel in KERNELS]
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_rows_that_are_written_later_leave_the_others_as_they_are() -> None:
    codes = small(whole(100, 24), "dot").codes
    whole_, moments = sketched(codes, 24)
    bit_by_bit = np.zeros_like(whole_)
    for first, count in ((0, 1), (1, 30), (31, 2), (33, 67)):
        _kernel.sketch(codes, first, count, moments, bit_by_bit)
    np.testing.assert_array_equal(bit_by_bit, whole_)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("measure", ["dot", "euclid"])
@pytest.mark.parametrize("dim", [1, 2, 7, 64, 129, 1_536])
def test_a_scan_finds_by_sketches_what_it_finds_without(kernel: str, measure: str, dim: int) -> None:
    count, k = 1_330, 7
    vectors, queries = whole(count, dim, seed=dim), whole(4, dim, seed=dim + 1)
    given = small(vectors, measure, graph=np.zeros((count, 8), np.int32))
    searcher = given.searcher(kernel)
    searcher.sketch(*sketched(given.codes, dim))
    random = np.random.default_rng(dim)
    for first, size in ((0, count), (0, 600), (32, 1_000), (320, 1_010)):
        wanted = best(queries, vectors, measure, k, np.arange(first, first + size))
        np.testing.assert_equal(searcher.scan_range(queries, k, 40, first, size), wanted)
    for share in (0.9, 0.5):
        allow = random.random(count) < share
        wanted = best(queries, vectors, measure, k, np.flatnonzero(allow))
        np.testing.assert_equal(searcher.scan_allowed(queries, k, 40, allow), wanted)


@pytest.mark.parametrize("measure", ["dot", "euclid"])
def test_sketches_that_say_nothing_hide_nothing(measure: str) -> None:
    """All rows alike but in one component: nothing else tells them apart."""
    count = 900
    vectors = np.zeros((count, 40), np.float32)
    vectors[:, 3] = np.arange(count) % 5
    given = small(vectors, measure, graph=np.zeros((count, 8), np.int32))
    searcher = given.searcher()
    blocks, moments = sketched(given.codes, 40)
    queries = np.zeros((2, 40), np.float32)
    queries[:, 3] = 4, -4
    for spread in (moments, np.zeros_like(moments)):
        searcher.sketch(blocks, spread)
        wanted = best(queries, vectors, measure, 9, np.arange(count))
        np.testing.assert_equal(searcher.scan_range(queries, 9, 40, 0, count), wanted)


def test_estimates_that_mislead_hide_nothing() -> None:
    """Nearly all rows are alike, so that nothing tells the others from them, and these are the best or the worst."""
    count, dim = 5_000, 64
    random = np.random.default_rng(3)
    vectors = np.repeat(random.integers(-3, 4, (1, dim)), count, axis=0).astype(np.float32)
    other = random.choice(
        np.setdiff1d(np.arange(count), np.linspace(0, count - 1, 1_024).astype(int)), 40, replace=False
    )
    vectors[other] = random.integers(-3, 4, dim)
    given = small(vectors, "dot", graph=np.zeros((count, 8), np.int32))
    searcher = given.searcher()
    searcher.sketch(*sketched(given.codes, dim))
    queries = np.stack((vectors[other[0]] - vectors[0], vectors[0] - vectors[other[0]]))
    for wanted in (9, 60):
        truth = best(queries, vectors, "dot", wanted, np.arange(count))
        np.testing.assert_equal(searcher.scan_range(queries, wanted, 40, 0, count), truth)


def test_the_longest_rows_are_found_under_dot() -> None:
    random = np.random.default_rng(4)
    vectors = random.standard_normal((20_000, 64)).astype(np.float32)
    vectors[random.choice(20_000, 200, replace=False)] *= 8
    queries = random.standard_normal((100, 64)).astype(np.float32)
    given = small(vectors, "dot", graph=np.zeros((20_000, 8), np.int32))
    scale = 127 / float(np.abs(vectors).max())
    codes = np.full((20_000, 64), 128, np.uint8) + np.rint(vectors * scale).astype(np.int8).view(np.uint8)
    searcher = given.searcher(codes=codes, scale=scale)
    searcher.sketch(*sketched(codes, 64))
    truth = exact_search(queries, vectors, 10, Metric.DOT).rows
    assert recall_at(searcher.scan_range(queries, 10, 20, 0, 20_000)[0], truth) >= 0.998


def test_a_query_beyond_all_floats_is_answered() -> None:
    vectors = clustered(1_000, 16, 3) * np.float32(1e3)
    given = small(vectors, "dot", graph=np.zeros((1_000, 8), np.int32))
    searcher = given.searcher()
    searcher.sketch(*sketched(given.codes, 16))
    with np.errstate(over="ignore"):
        rows, _ = searcher.scan_range(np.full((1, 16), 3e38, np.float32), 5, 20, 0, 1_000)
    assert len(set(rows[0].tolist()) - {-1}) == 5


@pytest.mark.parametrize("metric", METRICS)
def test_built_and_grown_ones_have_them_and_find_what_there_is(metric: Metric, tmp_path: Path) -> None:
    points = as_vectors(clustered(4_100, 64, 5, centres=60), 64, metric)
    vectors, queries = points[:4_000], points[4_000:]
    truth = exact_search(queries, vectors, 10, metric).rows
    CodedBuilder().build(vectors, CodedBuilder().spec(metric, 64, {}), tmp_path, threads=1, progress=lambda done: None)
    assert (tmp_path / "sketches.npy").exists()
    files = {path.name: path for path in tmp_path.iterdir()}
    built = CodedBuilder().open(files, CodedBuilder().spec(metric, 64, {}), vectors)
    grown = CodedGrowing(metric, 64)
    for count in (300, LEAST_ROWS - 1, LEAST_ROWS, 600, 2_500, 4_000):
        index = grown.index(vectors[:count])
    for one in (built, index):
        assert recall_at(one.search(queries, 10).rows, truth) >= 0.998
    arrays = read_arrays(files, FILES, MAYBE, 64)
    plain = searcher_of(metric, {name: arrays[name] for name in arrays if name not in ("sketches", "moments")}, vectors)
    same = np.mean(built.scan(queries, 10, None).rows == plain.scan_range(queries, 10, 20, 0, 4_000)[0])
    assert same >= 0.999


def test_what_half_floats_hold_has_none(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((2_000, 16)).astype(np.float32)
    vectors *= np.float32(10) ** np.linspace(-6, 6, 2_000, dtype=np.float32)[:, None]
    spec = CodedBuilder().spec(Metric.DOT, 16, {})
    CodedBuilder().build(vectors, spec, tmp_path, threads=1, progress=lambda done: None)
    arrays = read_arrays({path.name: path for path in tmp_path.iterdir()}, FILES, MAYBE, 16)
    assert (arrays["codes"].dtype == np.uint8) == ("sketches" in arrays)


@pytest.mark.parametrize(
    ("blocks", "moments", "said"),
    [
        (np.zeros((2, 32 * 9), np.uint8), np.zeros((2, 20), np.float32), "fewer than the rows need"),
        (np.zeros((3, 32 * 9 - 1), np.uint8), np.zeros((2, 20), np.float32), "blocks: wrong shape"),
        (np.zeros((3, 32 * 9), np.uint8), np.zeros((2, 19), np.float32), "moments: wrong shape"),
        (np.zeros((3, 32 * 9), np.uint8), np.full((2, 20), np.nan, np.float32), "not finite"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused(blocks: Any, moments: Any, said: str) -> None:
    given = small(whole(70, 20), "dot")
    with pytest.raises(ValueError, match=said):
        given.searcher().sketch(blocks, moments)
    if moments.shape[1] == 20:  # they say themselves of how many components they are
        with pytest.raises(ValueError, match=said):
            _kernel.sketch(given.codes, 0, 70, moments, blocks)


def test_rows_beyond_the_codes_are_refused() -> None:
    codes = small(whole(70, 20), "dot").codes
    blocks, moments = sketched(codes, 20)
    with pytest.raises(ValueError, match="rows of the codes"):
        _kernel.sketch(codes, 60, 11, moments, blocks)


def test_one_file_of_the_two_is_not_enough(tmp_path: Path) -> None:
    vectors = clustered(1_000, 16, 3)
    spec = CodedBuilder().spec(Metric.EUCLID, 16, {})
    CodedBuilder().build(vectors, spec, tmp_path, threads=1, progress=lambda done: None)
    files = {path.name: path for path in tmp_path.iterdir() if path.name != "moments.npy"}
    with pytest.raises(VssError, match=r"wanted sketches.npy and moments.npy or neither") as raised:
        CodedBuilder().open(files, spec, vectors)
    assert raised.value.code is Code.CORRUPT
