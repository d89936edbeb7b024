"""Columns answer what `filters.matches` means, on random payloads and filters."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.registry import INDEXERS
from tests.storage.filter_strategies import CONDITIONS, PAYLOADS
from vss.filters import Condition, Filter, IsEmpty, IsNull, Match, Range, Text, TextMode, ValuesCount, matches
from vss.points import id_key
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.artifacts import ArtifactStore
from vss.storage.build import Block, SegmentBuilder
from vss.storage.manifest import SegmentRecord
from vss.storage.segment import Segment


def segment_of(payloads: list[dict[str, object]], folder: Path) -> Segment:
    """A flat segment whose ids are 0, 1, 2, ...; the even ones have a vector by the name "other" too."""
    count = len(payloads)
    even = np.arange(0, count, 2)
    schema = Schema(vectors={"": VectorSchema(dim=2), "other": VectorSchema(dim=2)})
    with SegmentBuilder(schema, folder / "staging") as builder:
        vectors = np.tile(np.asarray([[1.0, 0.0]], np.float32), (count, 1))
        builder.add(
            Block(
                keys=[id_key(row) for row in range(count)],
                payloads=[json.dumps(payload).encode() for payload in payloads],
                versions=np.arange(count),
                vectors={"": (np.arange(count), vectors), "other": (even, vectors[even])},
            )
        )
        artifacts = ArtifactStore(folder / "artifacts")
        record = builder.finish(artifacts, INDEXERS, IndexSettings(kind="flat"), threads=1)
    return Segment(record, artifacts, INDEXERS)


def names_of(row: int) -> list[str]:
    """The vectors that a point of `segment_of` has."""
    return ["", "other"] if row % 2 == 0 else [""]


def first_form(segment: Segment, folder: Path) -> Segment:
    """The same segment as the first form of columns had it: its record does not know the later ones."""
    stored = msgspec.to_builtins(segment.record)
    del stored["columns_form"], stored["shapes_complete"]
    old = {"keyword", "bool", "integer", "float"}
    stored["columns"] = [one for one in stored["columns"] if one["type"] in old and '"' not in one["path"]]
    return Segment(msgspec.convert(stored, SegmentRecord), ArtifactStore(folder / "artifacts"), INDEXERS)


@settings(max_examples=100, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=7), st.lists(CONDITIONS, min_size=1, max_size=6))
def test_masks_equal_the_meaning(payloads: list[dict[str, object]], conditions: list[Condition]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        segment = segment_of(payloads, Path(folder))
        first = first_form(segment, Path(folder))
        for condition in conditions:
            wanted = [matches(condition, row, payload, names_of(row)) for row, payload in enumerate(payloads)]
            assert segment.mask(condition).tolist() == wanted
            assert first.mask(condition).tolist() == wanted


PEOPLE: list[dict[str, object]] = [
    {"city": "Oslo", "age": 30, "tags": ["a", "b"], "home": {"floor": 2}, "ok": True},
    {"city": "Rome", "age": 30.5, "tags": [], "cars": [{"year": 1999}, {"year": 2020}], "ok": 1},
    {"city": None, "age": "30", "tags": "a"},
    {},
]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (Match("city", ("Oslo", "Rome")), [0, 1]),
        (Match("city", ()), []),
        (Match("age", (30,)), [0]),
        (Match("age", ("30",)), [2]),
        (Match("tags", ("a",)), [0, 2]),
        (Match("ok", (True,)), [0]),
        (Match("ok", (1,)), [1]),
        (Match("home.floor", (2,)), [0]),
        (Match("cars[].year", (2020,)), [1]),
        (Range("age", gt=30), [1]),
        (Range("age", gte=30, lte=30.5), [0, 1]),
        (Range("cars[].year", lt=2000), [1]),
        (Filter(), [0, 1, 2, 3]),
        (Filter(must_not=(Match("tags", ("a",)),)), [1, 3]),
        (Filter(should=(Match("city", ("Oslo",)), Range("age", gt=30)), must=(Match("tags", ("b",)),)), [0]),
    ],
)
def test_the_meaning_by_example(condition: Condition, rows: list[int], tmp_path: Path) -> None:
    assert [row for row, payload in enumerate(PEOPLE) if matches(condition, row, payload)] == rows
    assert np.flatnonzero(segment_of(PEOPLE, tmp_path).mask(condition)).tolist() == rows


def test_more_paths_than_columns_are_still_answered(tmp_path: Path) -> None:
    wide: list[dict[str, object]] = [
        {f"field{number}": number for number in range(300)},
        {"field299": 99, "late": "x"},
    ]
    segment = segment_of(wide, tmp_path)
    assert not segment.record.columns_complete
    assert not segment.record.shapes_complete
    assert segment.mask(Match("field299", (99,))).tolist() == [False, True]
    assert segment.mask(Match("late", ("x",))).tolist() == [False, True]
    assert segment.mask(IsEmpty("late")).tolist() == [True, False]


def test_columns_answer_first_and_payloads_are_read_for_the_rest(tmp_path: Path) -> None:
    payloads: list[dict[str, object]] = [
        {"kind": "even" if row % 2 == 0 else "odd", "text": f"row {row} " + "long " * 80} for row in range(20)
    ]
    segment = segment_of(payloads, tmp_path)
    kind = Match("kind", ("even",))
    for one in (kind, IsEmpty("text"), IsNull("text"), ValuesCount("kind", gt=1), Text("text", "4", TextMode.ANY_WORD)):
        assert segment.filtered(one)[1] == 0
    text = Match("text", ("not there",))  # too long for keywords
    assert segment.filtered(Filter(should=(kind, text)))[1] == 10
    assert segment.filtered(text)[1] == 20
    mask, read = segment.filtered(Filter(must=(Text("text", "row 4 long", TextMode.PHRASE), kind)))
    assert np.flatnonzero(mask).tolist() == [4]
    assert read == 1
