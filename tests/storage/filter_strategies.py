"""Random payloads and filters over a few paths, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from vss.filters import Filter, HasId, Match, Range

SCALARS = st.one_of(
    st.sampled_from([True, False, 0, 1, 2, -3, 0.0, 1.0, 0.5, 1e300, "", "1", "a", "b", "é", None, 2**53 + 1, 2**70]),
    st.just("long " * 80),
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "a.b", "c[]"]), below, max_size=2)
    ),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(st.sampled_from(["a", "b", "c", "a.b"]), VALUES, max_size=3)
PATHS = st.sampled_from(["a", "b", "c", "a.b", "a.a", "a[].b", "a[]", "b[].a.b", "missing"])
BOUNDS = st.one_of(st.none(), st.sampled_from([-3, 0, 0.5, 1, 1.0, 2, 2**53, float(2**53), 1e300]))
MATCHES = st.builds(
    Match,
    PATHS,
    st.lists(st.sampled_from([True, False, 0, 1, 2, "1", "a", "é", 2**53 + 1, 2**70]), max_size=3).map(tuple),
)
RANGES = st.builds(Range, PATHS, BOUNDS, BOUNDS, BOUNDS, BOUNDS)
HAS_ID = st.builds(
    HasId, st.lists(st.one_of(st.integers(0, 6), st.sampled_from(["0", "1", "x"])), max_size=3).map(tuple)
)


def _filter(below: st.SearchStrategy) -> st.SearchStrategy:
    some = st.lists(below, max_size=2).map(tuple)
    return st.builds(Filter, some, some, some)


CONDITIONS = st.recursive(st.one_of(MATCHES, RANGES, HAS_ID), _filter, max_leaves=5)
