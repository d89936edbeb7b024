"""Filters that are asked for often are answered from gathered rows, and those that are not from what there is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from indexers.native import cells
from indexers.registry import INDEXERS
from tests.conformance.data import clustered
from vss.changes import PatchPayload
from vss.engines.local import LocalEngine
from vss.filters import Condition, Filter, Match, Range
from vss.patches import PayloadPatch
from vss.points import Point
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search import hot
from vss.search.hot import GATHERING
from vss.search.plan import Method
from vss.search.retrieve import Found, search, search_async
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.storage.segment import Segment
from vss.storage.selection import Selection
from vss.storage.view import View
from vss.types import Metric, PointId

COUNT, DIM = 6_000, 32
VECTORS = clustered(COUNT + 10, DIM, seed=8)
QUERIES = VECTORS[COUNT:]
OFTEN = 3_000
WHERE = Range("n", gte=0, lt=3_000)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with closing(made(tmp_path)) as engine:
        yield engine


def made(folder: Path) -> LocalEngine:
    engine = LocalEngine(DataDir(folder), INDEXERS, writable=True)
    settings = IndexSettings(kind="native")
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=settings))
    points = [
        Point(id=row, vectors={"": VECTORS[row]}, payload=b'{"n": %d, "even": %d}' % (row, row % 2))
        for row in range(COUNT)
    ]
    engine.upsert("c", points).result()
    fold(engine.collection("c"), engine, INDEXERS, threads=2)
    return engine


def ask(view: View, where: Condition, query: int = 0) -> Found:
    return search(view, QUERIES[query : query + 1], using="", k=10, where=where)[0]


def selection(view: View, where: Condition) -> Selection:
    known = view.parts[0].known("", where)
    assert known is not None
    return known


def segment_of(view: View) -> Segment:
    body = view.parts[0].body
    assert isinstance(body, Segment)
    return body


def heat(view: View, where: Condition) -> None:
    for _ in range(OFTEN):
        ask(view, where)
        if selection(view, where).wasted is None:
            break
    for thread in threading.enumerate():
        if thread.name == GATHERING:
            thread.join()


def ask_gathered(view: View, where: Condition, query: int = 0) -> Found:
    """What took how long depends on what else the machine does: as if walks took long and scans did not."""
    selection(view, where).took |= {"graph": 1e9, "partition": 1e9, "gathered scan": 0.0}
    found = ask(view, where, query)
    assert found.plans[0].plan.gathered
    return found


def ids(view: View, found: Found) -> list[PointId]:
    return [view.parts[part].point(row).id for part, row in zip(found.parts, found.rows, strict=True)]


def test_a_filter_that_keeps_coming_has_its_rows_gathered(engine: LocalEngine) -> None:
    view = engine.collection("c").view()
    ask(view, WHERE)
    assert selection(view, WHERE).gathered is None
    before = selection(view, WHERE).nbytes
    heat(view, WHERE)
    assert selection(view, WHERE).gathered is not None
    assert selection(view, WHERE).nbytes > before + 3_000 * DIM // 4
    for query in range(len(QUERIES)):
        found = ask_gathered(view, WHERE, query)
        distances = np.linalg.norm(VECTORS[:3_000] - QUERIES[query], axis=1)
        assert ids(view, found) == np.argsort(distances, kind="stable")[:10].tolist()
    other = Filter(must=(WHERE, Match("even", (0,))))
    assert not ask(view, other).plans[0].plan.gathered


def test_of_gathered_rows_those_near_the_query_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LEAST_ROWS", 1_000)
    with closing(made(tmp_path)) as engine:
        view = engine.collection("c").view()
        ask(view, WHERE)
        heat(view, WHERE)
        right = 0
        for query in range(len(QUERIES)):
            selection(view, WHERE).took |= {"graph": 1e9, "partition": 1e9, "gathered scan": 1e9}
            found = ask(view, WHERE, query)
            plan = found.plans[0].plan
            assert (plan.method, plan.gathered) == (Method.PARTITION, True)
            assert plan.effort is not None
            assert plan.effort < plan.matching
            distances = np.linalg.norm(VECTORS[:3_000] - QUERIES[query], axis=1)
            right += len({*ids(view, found)} & {*np.argsort(distances, kind="stable")[:10].tolist()})
        assert right >= 0.95 * 10 * len(QUERIES)


def test_what_is_gathered_drives_out_nothing_that_was(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    view, other = engine.collection("c").view(), Range("n", gte=1_000, lt=4_000)
    ask(view, WHERE)
    heat(view, WHERE)
    gathered = selection(view, WHERE).gathered
    assert gathered is not None
    monkeypatch.setattr(hot, "MOST_OF_ALL", 1.5 * gathered.nbytes / segment_of(view).selection_bytes)
    ask(view, other)
    heat(view, other)
    assert selection(view, other).gathered is None
    assert selection(view, WHERE).gathered is gathered
    selection(view, WHERE).gathered = None
    heat(view, other)
    assert selection(view, other).gathered is not None, "there is room now"


def test_what_is_deleted_is_not_among_them(engine: LocalEngine) -> None:
    heat(engine.collection("c").view(), WHERE)
    nearest = ids(engine.collection("c").view(), ask(engine.collection("c").view(), WHERE))
    engine.remove("c", [nearest[0]]).result()
    view = engine.collection("c").view()
    assert ids(view, ask(view, WHERE))[:9] == nearest[1:]
    heat(view, WHERE)
    assert ids(view, ask_gathered(view, WHERE))[:9] == nearest[1:]


def test_nothing_is_gathered_for_what_nobody_keeps(engine: LocalEngine) -> None:
    """Where payloads lie over a segment its selections are made for each query."""
    engine.write("c", [PatchPayload((5_999,), PayloadPatch(set={"n": 10}))]).result()
    view = engine.collection("c").view()
    assert view.parts[0].patches
    for _ in range(20):
        part, plan = view.parts[0], ask(view, WHERE).plans[0].plan
        assert plan.in_order is not None
        selected, _ = part.select("", WHERE)
        hot.heat(part, "", WHERE, selected, plan, 1e9)
        assert all(thread.name != GATHERING for thread in threading.enumerate())
        assert selected.gathered is None


def test_queries_that_arrive_together_get_their_own_answers(engine: LocalEngine) -> None:
    view = engine.collection("c").view()

    async def together() -> list[list[Found]]:
        asked = [search_async(view, QUERIES[query : query + 1], using="", k=10) for query in range(len(QUERIES))]
        return await asyncio.gather(*asked)

    for query, (found,) in enumerate(asyncio.run(together())):
        alone = search(view, QUERIES[query : query + 1], using="", k=10)[0]
        assert ids(view, found) == ids(view, alone)
        np.testing.assert_array_equal(found.scores, alone.scores)


def test_a_walk_that_took_long_is_not_taken_for_a_while(engine: LocalEngine) -> None:
    view = engine.collection("c").view()
    wide = Range("n", gte=0, lt=5_900)
    ask(view, wide)
    selection(view, wide).took["graph"] = 1e6
    plan = ask(view, wide).plans[0].plan
    assert plan.method.value != "graph"
    assert "graph 1,000,000 us" in plan.why
    selection(view, wide).took["graph"] = 0.0
    assert "graph 1,000,000 us" not in ask(view, wide).plans[0].plan.why


def test_a_scan_of_gathered_rows_that_took_long_is_not_taken_for_a_while(engine: LocalEngine) -> None:
    view = engine.collection("c").view()
    ask(view, WHERE)
    heat(view, WHERE)
    ask_gathered(view, WHERE)
    one = selection(view, WHERE)
    one.took |= {"graph": 0.0, "partition": 0.0, "gathered scan": 1e9}
    assert not ask(view, WHERE).plans[0].plan.gathered
    assert one.took["gathered scan"] < 1e9
