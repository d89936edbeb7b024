"""Filters mean what they mean to the client's own in-memory implementation, from the JSON on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import models
from qdrant_client.local.datetime_utils import parse
from qdrant_client.local.payload_filters import calculate_payload_mask

from api.wire.base import decode
from api.wire.filters import FilterWire, read_filter
from vss.filters import Filter, matches
from vss.instants import parse_instant

MOMENTS = [
    "2024-05-01",
    "2024-05-01T00:00:00Z",
    "2024-05-01T02:00:00.000001+02:00",
    "2024-05-01 00:00:00.25",
    "2023-12-31T23:59:59-01:00",
    "1969-12-31T23:59:59.999999Z",
]
TEXTS = ["", "a", "b", "1", "A red fox", "red, a FOX!", "fox_red a", "Éa", *MOMENTS]
SCALARS = st.one_of(
    st.sampled_from([True, False, None, 0, 1, 2, -3, 0.0, 1.0, 0.5, 1e300, 2**53 + 1]), st.sampled_from(TEXTS)
)
NAMES = st.sampled_from(["a", "b", "c", "a.b"])
VALUES = st.recursive(
    SCALARS,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(NAMES, below, max_size=2)),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(NAMES, VALUES, max_size=4)
COMMON = st.sampled_from(["a", "a", "b", "c"])
KEYS = st.one_of(
    COMMON, st.sampled_from(["a.b", "a[].b", "a[]", "a[0]", "b[1].a", "a[][]", '"a.b"', 'c."a.b"', "missing"])
)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(members)


def _bounds(of: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), of, min_size=1, max_size=2)
    return some


WANTED = st.one_of(
    st.lists(st.sampled_from([0, 1, 2]), max_size=2), st.lists(st.sampled_from(["a", "1", "b"]), max_size=2)
)
QUERIES = st.sampled_from(["", "a", "RED fox", "fox red", "Fox", "_", "2024", "éa"])
MATCHES = {
    "value": _object(value=st.sampled_from([True, False, 0, 1, "a", "1"])),
    "any": _object(any=WANTED),
    "except": st.builds(lambda values: {"except": values}, WANTED),
} | {
    name: st.builds(lambda text, name=name: {name: text}, QUERIES)
    for name in ("text", "text_any", "phrase", "prefix", "substring")
}
LEAVES = {name: _object(key=KEYS, match=match) for name, match in MATCHES.items()} | {
    "range": _object(key=KEYS, range=_bounds(st.sampled_from([-3, 0, 0.5, 1, 2, 1e300]))),
    "datetime": _object(key=KEYS, range=_bounds(st.sampled_from(MOMENTS))),
    "values_count": _object(key=KEYS, values_count=_bounds(st.integers(0, 3))),
    "is_empty": st.one_of(_object(key=KEYS, is_empty=st.booleans()), _object(is_empty=_object(key=KEYS))),
    "is_null": st.one_of(_object(key=KEYS, is_null=st.booleans()), _object(is_null=_object(key=KEYS))),
    "has_id": _object(has_id=st.lists(st.integers(0, 4), max_size=2)),
    "has_vector": _object(has_vector=st.sampled_from(["", "even", "none"])),
}


@st.composite
def filters(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """A filter as it is sent, with members of every kind up to a depth."""
    clause = draw(st.sampled_from(["must", "should", "must_not"]))
    sent: dict[str, Any] = {clause: draw(st.one_of(conditions(depth), st.lists(conditions(depth), max_size=2)))}
    if draw(st.booleans()):
        some = draw(st.lists(conditions(depth), max_size=3))
        sent["min_should"] = {"conditions": some, "min_count": draw(st.integers(1, 3))}
    return sent


@st.composite
def conditions(draw: st.DrawFn, depth: int) -> dict[str, Any]:
    """A field, the point itself, an object of an array, or a filter."""
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind <= 1:
        return draw(LEAVES[draw(st.sampled_from(sorted(LEAVES)))])
    inner = draw(filters(depth - 1))
    return inner if kind == 2 else {"nested": {"key": draw(KEYS), "filter": inner}}


@pytest.mark.parametrize("kind", LEAVES)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_conditions_mean_the_same(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES, min_size=8, max_size=8))
    assert_congruent([{"a": value} for value in values] + [{}], {"must": [data.draw(LEAVES[kind])]})


@settings(max_examples=400, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=5), filters())
def test_filters_mean_the_same(payloads: list[dict[str, Any]], sent: dict[str, Any]) -> None:
    assert_congruent(payloads, sent)


def assert_congruent(payloads: list[dict[str, Any]], sent: dict[str, Any]) -> None:
    """Both sides choose the same points, of which every other one has the vector `even`."""
    ids: list[Any] = list(range(len(payloads)))
    deleted = {"": np.zeros(len(ids), bool), "even": np.arange(len(ids)) % 2 == 1}
    theirs = calculate_payload_mask(payloads, models.Filter.model_validate(sent), ids, deleted).tolist()
    where = read_filter(decode(json.dumps(sent).encode(), FilterWire)) or Filter()
    ours = [
        matches(where, one, payloads[one], [name for name, gone in deleted.items() if not gone[one]]) for one in ids
    ]
    assert ours == theirs


@pytest.mark.parametrize(
    "text",
    [
        *MOMENTS,
        "2024-05-01T12:30",
        "2024-05-01 12:30:05 +02:00",
        "2024-05-01 12:30:05 UTC",
        "2024-05-01T12:30:05z",
        "2024-05-01T12:30:05.123456789+0530",
        "2024-05-01 12:30:05-10",
        "  2024-05-01",
        "2024-5-1",
        "2024-02-30",
        "2024-05-01T25:00:00Z",
        "2024-05-01T12:30Z",
        "2024-05-01T12",
        "2024-06-15T12:30+02",
        "2024-05-01T12:30:05+99:00",
        "2024-05-01T",
        "24-05-01",
        "2024",
        "now",
        "",
    ],
)
def test_moments_are_read_alike(text: str) -> None:
    theirs = parse(text)
    expected = None if theirs is None else round(theirs.timestamp() * 1_000_000)
    assert parse_instant(text) == expected
