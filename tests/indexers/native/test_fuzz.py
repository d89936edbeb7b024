"""Hostile arrays: each is refused in words or answered rightly. `make sanitize` says whether memory was kept to."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.native import _kernel
from indexers.native.sketches import LEAST_ROWS, sketch_bytes
from tests.indexers.native.oracle import Array, encode, scores_of

KERNELS = _kernel.kernels()
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-45, 1e-20, 1e20, 3.4e38, np.inf, -np.inf, np.nan)
SIZES = (0, 1, 2, 5, 33, 2**31 - 1, 2**31, 2**63, 2**64 - 1)


class Draw:
    """Chooses what is hostile; most choices are harmless, so that many cases get to a search."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.rng = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))

    def rarely(self, what: str) -> bool:
        # Not 0, which is drawn more often than its share.
        return self.data.draw(st.integers(0, 23), what) == 17

    def number(self, low: int, high: int, what: str) -> int:
        return self.data.draw(st.integers(low, high), what)

    def one_of(self, values: Any, what: str) -> Any:
        return self.data.draw(st.sampled_from(values), what)

    def floats(self, *shape: int) -> Array:
        array = self.rng.normal(size=shape).astype(np.float32)
        if array.size and self.rarely("hostile floats"):
            array.flat[self.rng.integers(0, array.size, 1 + array.size // 8)] = self.one_of(FLOATS, "float")
        return array

    def ids(self, count: int, low: int, *shape: int) -> Array:
        array = self.rng.integers(low, max(count, low + 1), shape).astype(np.int32)
        if array.size and self.rarely("hostile ids"):
            wrong = (low - 1, count, -(2**31), 2**31 - 1, -1)
            array.flat[self.rng.integers(0, array.size)] = self.one_of(wrong, "id")
        return array

    @np.errstate(over="ignore", invalid="ignore")
    def spoilt(self, array: Array) -> Array:
        """Another type, shape, stride or place."""
        match self.number(0, 150, "spoil"):
            case 101:
                return array.astype(self.one_of(["f8", "f2", "i8", "u1", "i1", ">f4", ">i4", "?"], "type"))
            case 102:
                return array[1:]
            case 103:
                return np.repeat(array, 2, axis=-1)[..., ::2]
            case 104:
                return np.asfortranarray(array)
            case 105:
                return array.reshape(-1)
            case 106:
                return array[None]
            case 107:
                room = np.zeros(array.nbytes + 1, np.uint8)
                room[1:] = np.frombuffer(array.tobytes(), np.uint8)
                return room[1:].view(array.dtype).reshape(array.shape)
            case 108:
                return array[..., :0]
            case 109:
                return np.broadcast_to(array[:1], array.shape) if array.ndim and len(array) else array
        return array


def hostile_codes(draw: Draw, count: int, dim: int) -> Array:
    form = draw.one_of(["u8", "f16"], "form")
    codes = encode(np.zeros((count, dim), np.float32), form, 1.0)
    if form == "u8":
        codes[...] = draw.rng.integers(0, 256, codes.shape)
    else:
        codes[...] = draw.rng.integers(0, 2**16, codes.shape).astype(np.uint16).view(np.float16)
        if not draw.rarely("any halves"):
            codes[~(np.abs(codes) < 100)] = 0
    return codes


def right(answer: Any, vectors: Array, queries: Array, measure: str, k: int, among: Array) -> None:
    """Distinct rows among the allowed ones, in the order of their scores, which are the exact ones."""
    rows, scores = answer
    assert rows.shape == scores.shape == (len(queries), k)
    with np.errstate(all="ignore"):
        true = scores_of(queries, vectors, measure)
    for found, given_scores, wanted in zip(rows, scores, true, strict=True):
        used = found[found >= 0]
        assert (found[len(used) :] == -1).all()
        assert (given_scores[len(used) :] == -np.inf).all()
        assert len(set(used.tolist())) == len(used)
        assert set(used.tolist()) <= set(among.tolist())
        assert not np.isnan(given_scores).any()
        assert (given_scores[:-1] >= given_scores[1:]).all()
        harmless = np.abs(wanted[used]) < 1e6
        np.testing.assert_allclose(given_scores[: len(used)][harmless], wanted[used][harmless], rtol=1e-4, atol=1e-3)


@np.errstate(over="ignore")
def search_hostile(data: st.DataObject) -> None:
    draw = Draw(data)
    count, dim, degree = draw.number(0, 40, "count"), draw.number(1, 70, "dim"), draw.number(0, 6, "degree")
    if draw.number(0, 9, "many") == 9:
        count += LEAST_ROWS  # fewer have no sketches
    measure, kernel = draw.one_of(["dot", "euclid"], "measure"), draw.one_of(KERNELS, "kernel")
    vectors = draw.floats(count, dim)
    parts = {
        "codes": hostile_codes(draw, count, dim),
        "centre": None if draw.rng.random() < 0.5 else draw.floats(dim),
        "extra": None if draw.rng.random() < 0.5 else draw.floats(count),
        "graph": draw.ids(count, -1, count, degree),
        "entries": draw.ids(count, 0, min(count, draw.number(1, 3, "entries"))),
        "vectors": vectors.astype(np.float16) if draw.rng.random() < 0.3 else vectors,
    }
    parts = {name: array if array is None else draw.spoilt(array) for name, array in parts.items()}
    scale = 1.0 if not draw.rarely("hostile scale") else draw.one_of(FLOATS, "scale")
    queries = draw.spoilt(draw.floats(draw.number(0, 3, "queries"), dim))
    k = draw.number(0, 45, "k") if not draw.rarely("hostile k") else draw.one_of(SIZES, "size of k")
    width = draw.number(0, 50, "width") if not draw.rarely("hostile width") else draw.one_of(SIZES, "size of width")
    try:
        searcher = _kernel.Searcher(measure=measure, scale=scale, kernel=kernel, **parts)
    except (ValueError, TypeError):
        return
    if draw.number(0, 1, "sketched"):
        rows = -(-count // _kernel.BLOCK) - draw.rarely("hostile blocks")
        blocks = draw.rng.integers(0, 256, (max(0, rows), sketch_bytes(dim))).astype(np.uint8)
        with suppress(ValueError, TypeError):
            searcher.sketch(draw.spoilt(blocks), draw.spoilt(draw.floats(2, dim)))
    if count and draw.number(0, 1, "divided"):
        cells = draw.number(1, 8, "cells")
        centres = parts["codes"][draw.rng.integers(0, count, cells)]
        of = draw.rng.integers(0, cells + draw.rarely("hostile cells"), count).astype(np.uint16)
        with suppress(ValueError, TypeError):
            more = None if parts["extra"] is None else draw.spoilt(draw.floats(cells))
            searcher.divide(draw.spoilt(centres), more, draw.spoilt(of))
    graph, entries, vectors = parts["graph"], parts["entries"], parts["vectors"]
    assert ((graph >= -1) & (graph < count)).all(), "ids out of range were taken"
    assert ((entries >= 0) & (entries < count)).all(), "entries out of range were taken"
    everyone = np.arange(count)
    mask = draw.spoilt(draw.rng.random(count) < draw.rng.random())
    listed = draw.rng.permutation(count)[: draw.number(0, 40, "listed")].astype(np.int32)
    if draw.rarely("hostile rows"):
        listed = draw.ids(count, 0, 5)
    first, size = draw.number(0, count, "first"), draw.number(0, count, "size")
    moments, budget = draw.spoilt(draw.floats(2, dim)), draw.number(0, 60, "budget")
    for among, ask in (
        (everyone, lambda: searcher.search(queries, k, width)),
        (np.flatnonzero(mask.ravel()), lambda: searcher.search_allowed(queries, k, width, width, mask)),
        (np.flatnonzero(mask.ravel()), lambda: searcher.scan_allowed(queries, k, width, mask)),
        (listed, lambda: searcher.scan(queries, k, width, listed)),
        (everyone[first : first + size], lambda: searcher.scan_range(queries, k, width, first, size)),
        (listed, lambda: searcher.scan_gathered(queries, k, width, searcher.gather(listed, moments))),
        (np.flatnonzero(mask.ravel()), lambda: searcher.probe(queries, k, budget, width, mask)),
        (listed, lambda: searcher.probe_listed(queries, k, budget, width, listed)),
        (listed, lambda: searcher.probe_gathered(queries, k, budget, width, searcher.gather(listed, moments))),
    ):
        try:
            answer = ask()
        except (ValueError, TypeError):
            continue
        if len(set(among.tolist())) == len(among):
            right(answer, vectors, queries, measure, k, among)
            if among is listed and width >= len(listed):
                assert (np.count_nonzero(answer[0] >= 0, axis=1) == min(k, len(listed))).all(), "a scan lost a row"


def build_hostile(data: st.DataObject) -> None:
    draw = Draw(data)
    count, dim = draw.number(1, 150, "count"), draw.number(1, 70, "dim")
    degree = draw.number(1, 12, "degree") if not draw.rarely("hostile degree") else draw.one_of(SIZES, "size")
    width = draw.number(1, 40, "width") if not draw.rarely("hostile width") else draw.one_of(SIZES, "size of width")
    threads = draw.number(1, 3, "threads")
    codes, base = draw.spoilt(hostile_codes(draw, count, dim)), draw.spoilt(draw.floats(count))
    extra = None if draw.rng.random() < 0.5 else draw.spoilt(draw.floats(count))
    scale = 1.0 if not draw.rarely("hostile scale") else draw.one_of(FLOATS, "scale")
    alpha = 1.2 if not draw.rarely("hostile alpha") else draw.one_of(FLOATS, "alpha")
    entry = draw.number(0, count - 1, "entry") if not draw.rarely("hostile entry") else draw.one_of((-1, count), "id")
    try:
        made = _kernel.Builder(
            codes, dim, scale, extra, base, entry, degree, width, alpha, draw.one_of(KERNELS, "kernel")
        )
    except (ValueError, TypeError):
        return
    assert 0 <= entry < count
    order = draw.rng.permutation(count).astype(np.int32)
    inserted = np.zeros(count, np.bool_)
    for batch in np.array_split(order, draw.number(1, 6, "batches")):
        rows = draw.spoilt(batch)
        if draw.rarely("hostile rows"):
            rows = draw.ids(count, 0, 5)
        try:
            made.insert(rows, threads)
        except (ValueError, TypeError):
            continue
        assert not inserted[rows].any()
        assert len(set(rows.tolist())) == len(rows)
        inserted[rows] = True
    graph = made.finish(threads)
    assert graph.shape == (count, degree)
    assert ((graph >= -1) & (graph < count)).all()
    linked = np.unique(graph[graph >= 0])
    assert (inserted[linked] | (linked == entry)).all(), "an edge leads to a row that was not inserted"


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_search_refuses_or_is_right(data: st.DataObject) -> None:
    search_hostile(data)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_build_refuses_or_makes_a_graph(data: st.DataObject) -> None:
    build_hostile(data)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(data=st.data())
def test_a_search_refuses_or_is_right_for_long(data: st.DataObject) -> None:
    search_hostile(data)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(data=st.data())
def test_a_build_refuses_or_makes_a_graph_for_long(data: st.DataObject) -> None:
    build_hostile(data)
