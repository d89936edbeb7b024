"""Rows that are taken together give the very columns that they give one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vss.storage import columnize
from vss.storage.columnize import ColumnsBuilder
from vss.storage.spans import Arrays, Column

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3) | st.just(1 << 70),
    st.floats(-2, 2),
    st.sampled_from(["", "a", "b", "two words", "2024-05-01T10:00:00Z", "x" * 300]),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.just({"inner": 1}) | st.just([{"inner": "a"}, {"inner": None}])


@st.composite
def payloads(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Runs of rows with the same names; the values of a name are mostly of one kind."""
    rows: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(
            st.dictionaries(
                st.sampled_from(["a", "b", "c.d", "e"]),
                st.sampled_from(
                    [
                        VALUES,
                        st.integers(-5, 5),
                        st.floats(-1, 1),
                        st.booleans(),
                        st.text("ab", max_size=2),
                        st.sampled_from(["2024-05-01T10:00:00Z", "no moment"]),
                        st.lists(st.sampled_from(["u", "v", "w"]), max_size=3),
                        st.lists(st.integers(0, 3), min_size=1, max_size=2),
                    ]
                ),
                max_size=3,
            )
        )
        rows += [{name: draw(kind) for name, kind in kinds.items()} for _ in range(draw(st.integers(1, 20)))]
    return rows


def made(builder: ColumnsBuilder) -> tuple[list[tuple[Column, Arrays]], set[str], bool, bool]:
    return list(builder.finish()), builder.scanned, builder.complete, builder.shapes_complete


@pytest.mark.parametrize("paths", [64, 2])
@settings(max_examples=150, derandomize=True, deadline=None)
@given(rows=payloads(), cut=st.integers(0, 60), only=st.sampled_from([None, "a", "b"]))
def test_rows_taken_together_give_the_columns_of_rows_taken_one_by_one(
    rows: list[dict[str, Any]], cut: int, only: str | None, paths: int
) -> None:
    before = columnize.MAX_PATHS
    columnize.MAX_PATHS = paths
    try:
        single, together = ColumnsBuilder(only), ColumnsBuilder(only)
        for row, payload in enumerate(rows):
            single.add(row, payload)
        together.add_all(0, rows[:cut])
        together.add_all(cut, rows[cut:])
    finally:
        columnize.MAX_PATHS = before
    expected, found = made(single), made(together)
    if paths == 64:
        assert found[1:] == expected[1:]
        assert [column for column, _ in found[0]] == [column for column, _ in expected[0]]
    else:
        # Which of too many paths are left out depends on the order in which they come.
        assert found[2:] == expected[2:]
    known = dict(expected[0])
    for column, arrays in found[0]:
        if column in known:
            assert arrays.keys() == known[column].keys(), column
            for role, array in arrays.items():
                assert np.array_equal(array, known[column][role], equal_nan=array.dtype.kind == "f"), (column, role)
