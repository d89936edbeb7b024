"""Columns answer what `filters.matches` means, on random payloads and filters."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.registry import INDEXERS
from tests.storage.filter_strategies import CONDITIONS, PAYLOADS
from vss.filters import Condition, Filter, Match, Range, matches
from vss.points import id_key
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.artifacts import ArtifactStore
from vss.storage.build import Block, SegmentBuilder
from vss.storage.segment import Segment


def segment_of(payloads: list[dict[str, object]], folder: Path) -> Segment:
    """A flat segment whose ids are 0, 1, 2, ..."""
    count = len(payloads)
    with SegmentBuilder(Schema(vectors={"": VectorSchema(dim=2)}), folder / "staging") as builder:
        vectors = np.tile(np.asarray([[1.0, 0.0]], np.float32), (count, 1))
        builder.add(
            Block(
                keys=[id_key(row) for row in range(count)],
                payloads=[json.dumps(payload).encode() for payload in payloads],
                versions=np.arange(count),
                vectors={"": (np.arange(count), vectors)},
            )
        )
        artifacts = ArtifactStore(folder / "artifacts")
        record = builder.finish(artifacts, INDEXERS, IndexSettings(kind="flat"), threads=1)
    return Segment(record, artifacts, INDEXERS)


@settings(max_examples=150, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=7), st.lists(CONDITIONS, min_size=1, max_size=6))
def test_masks_equal_the_meaning(payloads: list[dict[str, object]], conditions: list[Condition]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        segment = segment_of(payloads, Path(folder))
        for condition in conditions:
            wanted = [matches(condition, row, payload) for row, payload in enumerate(payloads)]
            assert segment.mask(condition).tolist() == wanted


PEOPLE = [
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
    wide = [{f"field{number}": number for number in range(100)}, {"field99": 99, "late": "x"}]
    segment = segment_of(wide, tmp_path)
    assert not segment.record.columns_complete
    assert segment.mask(Match("field99", (99,))).tolist() == [True, True]
    assert segment.mask(Match("late", ("x",))).tolist() == [False, True]
