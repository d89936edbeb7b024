"""Ordering by a payload field equals sorting everything, over segments, patches and the live part."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexers.registry import INDEXERS
from vss.changes import PatchPayload
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.filters import Filter, Range
from vss.instants import parse_instant
from vss.patches import PayloadPatch
from vss.points import Point
from vss.schema import Schema, VectorSchema
from vss.storage.datadir import DataDir
from vss.storage.fold import seal
from vss.storage.ordering import Order, ordered

VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, 2.0, -1.5, 2**60, 2**60 + 1]),
    st.sampled_from(["2024-05-01", "2024-05-01T00:00:00Z", "1999-12-31T23:59:59+02:00", "no moment", True, None]),
)
PAYLOADS = st.one_of(
    st.builds(lambda value: {"v": value}, VALUES),
    st.builds(lambda values: {"v": values}, st.lists(VALUES, max_size=3)),
    st.just({}),
)
STARTS = st.one_of(st.none(), st.sampled_from([0, 1.5, "2024-05-01", 2**60]))


def rank(value: object) -> tuple[int, float] | None:
    if isinstance(value, str):
        moment = parse_instant(value)
        return None if moment is None else (1, moment)
    return (0, value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def truth(payloads: list[dict[str, object]], order: Order, limit: int) -> list[int]:
    start = rank(order.start_from)
    placed = []
    for number, payload in enumerate(payloads):
        value = payload.get("v")
        ranks = [rank(one) for one in (value if isinstance(value, list) else [value])]
        ranks = [one for one in ranks if one and not (start and (one > start if order.descending else one < start))]
        if ranks:
            placed.append((max(ranks) if order.descending else min(ranks), number))
    placed.sort(key=lambda one: one[0], reverse=order.descending)
    return [number for _, number in placed[:limit]]


@settings(max_examples=60, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=9), st.booleans(), STARTS, st.integers(1, 5), st.data())
def test_it_is_sorting(
    payloads: list[dict[str, object]], descending: bool, start: float | str | None, limit: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(DataDir(Path(folder)), INDEXERS, writable=True)
        engine.create("c", Schema(vectors={"": VectorSchema(dim=2)}))
        vector = {"": np.asarray([1, 0], np.float32)}
        cut = len(payloads) // 2
        for number, payload in enumerate(payloads):
            if number == cut:
                seal(engine.collection("c"), engine, INDEXERS)
            engine.upsert("c", [Point(id=number, vectors=vector, payload=json.dumps(payload).encode())]).result()
        changed = data.draw(st.integers(0, len(payloads) - 1))
        new = data.draw(PAYLOADS)
        engine.write("c", [PatchPayload((changed,), PayloadPatch(set=new, overwrite=True))]).result()
        payloads[changed] = new
        order = Order(key="v", descending=descending, start_from=start)
        found = ordered(engine.collection("c").view(), None, order, limit)
        assert [one.part.point(one.row).id for one in found] == truth(payloads, order, limit)
        engine.close()


def test_filters_apply_and_bad_starts_are_refused(engine: LocalEngine) -> None:
    vector = {"": np.ones(8, np.float32)}
    engine.upsert("c", [Point(id=n, vectors=vector, payload=b'{"v": %d}' % (9 - n)) for n in range(9)]).result()
    view = engine.collection("c").view()
    found = ordered(view, Filter(must=(Range("v", gt=4),)), Order(key="v"), 2)
    assert [(one.part.point(one.row).id, one.value) for one in found] == [(4, 5), (3, 6)]
    with pytest.raises(VssError, match="start_from"):
        ordered(view, None, Order(key="v", start_from="soon"), 2)
