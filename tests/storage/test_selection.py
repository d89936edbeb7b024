"""What a filter leaves of a segment's vectors, and that it is found out once."""

from __future__ import annotations

import numpy as np

from vss.storage.selection import Cache, Selection, selected


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
