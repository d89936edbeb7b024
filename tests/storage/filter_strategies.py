"""Random payloads and filters over a few paths, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from vss.filters import (
    DatetimeRange,
    Except,
    Filter,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MinShould,
    Nested,
    Range,
    Text,
    TextMode,
    ValuesCount,
)
from vss.instants import parse_instant

MOMENTS = [
    "2024-05-01",
    "2024-05-01T00:00:00Z",
    "2024-05-01T02:00:00.000001+02:00",
    "2024-05-01 00:00:00.0000019",
    "2023-12-31T23:59:59-01:00",
    "1969-12-31T23:59:59.999999Z",
]
TEXTS = ["", "1", "a", "b", "é", "A red fox", "red, a FOX!", "fox_red a", "long " * 80, *MOMENTS]
SCALARS = st.one_of(
    st.sampled_from([True, False, 0, 1, 2, -3, 0.0, 1.0, 0.5, 1e300, None, 2**53 + 1, 2**70]), st.sampled_from(TEXTS)
)
NAMES = st.sampled_from(["a", "b", "c", "a.b", "c[]", "", 'q"'])
VALUES = st.recursive(
    SCALARS,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(NAMES, below, max_size=2)),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(NAMES, VALUES, max_size=3)
COMMON = ["a", "b", "c", "missing"]
SPECIAL = ["a.b", "a.a", "a[].b", "a[]", "b[].a.b", '"a.b"', 'a."c[]"', '""', "a[0]", "a[1].b", "a[][].b"]
PATHS = st.one_of(st.sampled_from(COMMON), st.sampled_from(SPECIAL))
WANTED = st.lists(st.sampled_from([True, False, 0, 1, 2, "1", "a", "é", 2**53 + 1, 2**70]), max_size=3).map(tuple)
NUMBERS = st.one_of(st.none(), st.sampled_from([-3, 0, 0.5, 1, 1.0, 2, 2**53, float(2**53), 1e300]))
INSTANTS = st.one_of(st.none(), st.sampled_from(MOMENTS).map(parse_instant))
COUNTS = st.one_of(st.none(), st.integers(0, 3))
FIELDS = st.one_of(
    st.builds(Match, PATHS, WANTED),
    st.builds(Except, PATHS, WANTED),
    st.builds(
        Text, PATHS, st.sampled_from(["", "a", "RED fox", "fox red", "Fox", "_", "2024"]), st.sampled_from(TextMode)
    ),
    st.builds(Range, PATHS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.builds(DatetimeRange, PATHS, INSTANTS, INSTANTS, INSTANTS, INSTANTS),
    st.builds(ValuesCount, PATHS, COUNTS, COUNTS, COUNTS, COUNTS),
    st.builds(IsEmpty, PATHS),
    st.builds(IsNull, PATHS),
)
HAS_ID = st.builds(
    HasId, st.lists(st.one_of(st.integers(0, 6), st.sampled_from(["0", "1", "x"])), max_size=3).map(tuple)
)
HAS_VECTOR = st.builds(HasVector, st.sampled_from(["", "other", "none"]))


def _filter(below: st.SearchStrategy) -> st.SearchStrategy:
    some = st.lists(below, max_size=2).map(tuple)
    least = st.one_of(st.none(), st.builds(MinShould, st.lists(below, max_size=3).map(tuple), st.integers(1, 3)))
    joined = st.builds(Filter, some, some, some, least)
    return st.one_of(joined, st.builds(Nested, PATHS, joined))


CONDITIONS = st.recursive(st.one_of(FIELDS, FIELDS, HAS_ID, HAS_VECTOR), _filter, max_leaves=5)
