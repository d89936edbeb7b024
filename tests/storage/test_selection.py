"""What a filter leaves of a segment's vectors, and that it is found out once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.filter_strategies import CONDITIONS, PAYLOADS
from tests.storage.test_filters import segment_of
from vss.filters import Condition, Filter, Range
from vss.storage.buckets import Buckets
from vss.storage.columns import Columns
from vss.storage.selection import Cache, Selection, selected

CONJUNCTIONS = st.builds(
    Filter,
    must=st.lists(CONDITIONS, max_size=3).map(tuple),
    must_not=st.lists(CONDITIONS, max_size=2).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=12), st.lists(CONDITIONS | CONJUNCTIONS, min_size=1, max_size=6))
def test_what_is_listed_is_what_the_mask_lets_through(
    payloads: list[dict[str, object]], conditions: list[Condition]
) -> None:
    rows = [*payloads, *({} for _ in range(60)), *payloads]  # few of many, so that lists are short
    with tempfile.TemporaryDirectory() as folder:
        segment, again = segment_of(rows, Path(folder)), np.arange(len(rows)) % 3 > 0
        for where in conditions:
            for name in ("", "other"):
                for alive in (None, again):
                    found, _ = segment.select(name, where, alive)
                    mask = segment.mask(where) if alive is None else segment.mask(where) & alive
                    has = segment.vectors[name].rows
                    wanted = np.flatnonzero(mask if has is None else mask[has])
                    assert found.rows.tolist() == wanted.tolist()
                    assert found.count == len(wanted)
                    assert found.whole == (found.mask is None)
                    if found.mask is not None:
                        assert np.flatnonzero(found.mask).tolist() == wanted.tolist()


def test_a_condition_that_comes_again_in_other_filters_is_worked_out_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mask is kept from the second time on: one that comes once is not worth the memory."""
    segment = segment_of([{"n": row, "m": row % 7} for row in range(60)], tmp_path)
    asked: list[Condition] = []
    passing = Columns.passing

    def noted(columns: Columns, condition: Condition) -> object:
        asked.append(condition)
        return passing(columns, condition)

    monkeypatch.setattr(Columns, "passing", noted)
    often = Range("n", gte=10, lt=50)
    for other in range(5):
        where = Filter(must=(often, Range("m", gte=0, lte=other)))
        found, known = segment.select("", where, None)
        assert found.rows.tolist() == [row for row in range(10, 50) if row % 7 <= other]
        assert not known
        assert segment.select("", where, None) == (found, True)
    assert asked.count(often) == 2


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2_000), st.integers(0, 2**20), st.data())
def test_a_wide_range_is_the_rows_between_its_ends(count: int, seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    rows = random.permutation(count)[: random.integers(1, count + 1)]
    low = data.draw(st.integers(0, len(rows)))
    high = data.draw(st.integers(low, len(rows)))
    assert np.flatnonzero(Buckets(rows, count).mask(rows, low, high)).tolist() == sorted(rows[low:high].tolist())


def test_a_selection_lists_what_its_mask_leaves() -> None:
    chosen = selected(np.array([True, False, True, True]))
    assert chosen.count == 3
    assert chosen.rows.dtype == np.int32
    assert chosen.rows.tolist() == [0, 2, 3]
    assert selected(np.ones(3, np.bool_)).mask is None
    assert selected(np.ones(3, np.bool_)).rows.tolist() == [0, 1, 2]
    assert Selection(None, 0).rows.tolist() == []


def test_the_cache_forgets_what_was_used_longest_ago_and_counts_what_it_replaces() -> None:
    cache: Cache[str] = Cache(100)
    cache.put("a", "1", 40)
    cache.put("b", "2", 40)
    assert cache.get("a") == "1"
    cache.put("c", "3", 40)
    assert [cache.get(name) for name in "abc"] == ["1", None, "3"]
    for _ in range(10):
        cache.put("c", "4", 40)
    assert [cache.get(name) for name in "ac"] == ["1", "4"]
    cache.put("huge", "5", 1_000)
    assert [cache.get(name) for name in ("a", "c", "huge")] == [None, None, "5"]
