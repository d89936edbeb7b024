"""Ids, their order, and payloads at the gate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vss.errors import VssError
from vss.points import check_payload, id_key, key_id

IDS = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1), st.text(min_size=1, max_size=40).filter(lambda t: t.isprintable())
)


@given(IDS)
def test_a_key_gives_its_id_back(point_id: int | str) -> None:
    assert key_id(id_key(point_id)) == point_id
    assert type(key_id(id_key(point_id))) is type(point_id)


@given(st.lists(IDS))
def test_keys_sort_as_scrolling_does(ids: list[int | str]) -> None:
    wanted = sorted(one for one in ids if isinstance(one, int)) + sorted(
        (one for one in ids if isinstance(one, str)), key=str.encode
    )
    assert [key_id(key) for key in sorted(map(id_key, ids))] == wanted


@pytest.mark.parametrize("bad", ["", True, 1.5, None, 1 << 64, -(1 << 63) - 1, "x" * 513, "\ud800"])
def test_bad_ids_are_refused(bad: object) -> None:
    with pytest.raises(VssError, match="wanted"):
        id_key(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [b"[1]", b"{", b'"a"', b'{"a": NaN}', b'{"a": "\\ud800"}', b'{"a":' * 3000])
def test_bad_payloads_are_refused(bad: bytes) -> None:
    with pytest.raises(VssError, match="payload"):
        check_payload(bad)


def test_an_absent_payload_is_an_empty_object() -> None:
    assert check_payload(b"") == check_payload(b"null") == b"{}"
