"""New filters on large segments: the rows that a walk meets are tested, and the answer is that of rows found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from indexers.registry import INDEXERS
from tests.conformance.data import clustered
from vss.changes import PatchPayload
from vss.engines.local import LocalEngine
from vss.filters import Condition, DatetimeRange, Filter, HasId, Match, MinShould, Range, predicate
from vss.patches import PayloadPatch
from vss.points import Point
from vss.protocols import Deadline
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search import tested
from vss.search.explain import explained
from vss.search.plan import Method
from vss.search.retrieve import Found, search
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.storage.ranks import FEW_SPANS, Ranks
from vss.storage.view import View
from vss.types import Metric, PointId

COUNT, DIM = 4_000, 16
VECTORS = clustered(COUNT + 20, DIM, seed=8)
QUERIES = VECTORS[COUNT:]


def payload(row: int) -> dict[str, object]:
    """What rows have: numbers of two types at one path, a path that some lack, one with several values."""
    random = np.random.default_rng(row)
    made: dict[str, object] = {
        "share": float(random.random()),
        "mixed": int(random.integers(8)) if row % 2 else float(random.integers(8)),
        "kind": "abcdefgh"[int(random.integers(8))],
        "tags": ["x", "y"][: int(random.integers(3))],
        "at": f"2026-01-{1 + row % 28:02}T00:00:00Z",
    }
    made["both"] = [7, 70] if row % 2 else 7.0
    return made if row % 3 else made | {"some": bool(random.integers(2))}


PAYLOADS = [payload(row) for row in range(COUNT)]


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a segment that is so large that nearly all is less work than to find out all rows that pass."""
    monkeypatch.setattr(tested, "LEAST_ROWS", 0)
    monkeypatch.setattr(tested, "FINDING_US", 1e9)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(DataDir(tmp_path), INDEXERS, writable=True)
    settings = IndexSettings(kind="native")
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=settings))
    points = [
        # Some have no vector: the vectors' places are not the rows then.
        Point(id=row, vectors={"": VECTORS[row]} if row % 50 else {}, payload=msgspec.json.encode(PAYLOADS[row]))
        for row in range(COUNT)
    ]
    engine.upsert("c", points).result()
    fold(engine.collection("c"), engine, INDEXERS, threads=2)
    yield engine
    engine.close()


def ask(view: View, where: Condition, query: int = 0, k: int = 10, **more: Any) -> Found:
    return search(view, QUERIES[query : query + 1], using="", k=k, where=where, **more)[0]


def ids(view: View, found: Found) -> list[PointId]:
    return [view.parts[part].point(row).id for part, row in zip(found.parts, found.rows, strict=True)]


def fresh(engine: LocalEngine) -> View:
    """The same, to which all filters are new."""
    collection = engine.collection("c")
    collection.change_schema(collection.schema)
    collection._segments = {}
    return collection.view()


def drawn(random: np.random.Generator) -> Filter:
    def one() -> Condition:
        low = float(random.uniform(0, 0.5))
        kinds = ["abcdefgh"[at] for at in random.permutation(8)[: random.integers(1, 8)]]
        return (
            Range("share", gte=low, lt=low + 0.5),
            Range("mixed", gte=float(random.integers(1, 3)), lt=8),
            Match("kind", tuple(kinds)),
            Match("some", (bool(random.integers(2)),)),
            Match("mixed", (1, 2, 3)),
            DatetimeRange("at", gte=1_767_225_600_000_000 + int(random.integers(10)) * 86_400_000_000),
        )[random.integers(6)]

    must = tuple(one() for _ in range(random.integers(3)))
    return Filter(must=must, must_not=(one(),) if not must or random.integers(2) else ())


def test_answers_are_those_of_the_filter(engine: LocalEngine) -> None:
    random = np.random.default_rng(5)
    gone = random.permutation(COUNT)[:400]
    engine.remove("c", gone.tolist()).result()
    view = engine.collection("c").view()
    held = {row: PAYLOADS[row] for row in sorted(set(range(COUNT)) - set(gone.tolist())) if row % 50}
    found_right = asked = by_tests = 0
    for number in range(50):
        where, query = drawn(random), QUERIES[number % 20]
        passing = np.array([row for row, one in held.items() if predicate(where)(row, one, {""})], np.int64)
        distances = np.linalg.norm(VECTORS[passing] - query, axis=1) if len(passing) else np.empty(0)
        best = passing[np.argsort(distances, kind="stable")[:10]].tolist()
        found = ask(view, where, number % 20)
        by_tests += any(one.plan.estimated for one in found.plans)
        assert len(found) == len(best)
        assert set(ids(view, found)) <= set(passing.tolist())
        found_right += len(set(ids(view, found)) & set(best))
        asked += len(best)
    assert by_tests > 15
    assert found_right / asked >= 0.97


def test_a_filter_that_keeps_coming_is_found_out(engine: LocalEngine) -> None:
    view, where = engine.collection("c").view(), Range("share", gte=0.25, lt=0.75)
    answers = [ask(view, where) for _ in range(tested.TIMES + 2)]
    assert [one.plans[0].plan.estimated for one in answers] == [True] * tested.TIMES + [False] * 2
    assert [one.plans[0].filter_known for one in answers] == [False] * (tested.TIMES + 1) + [True]
    counted = sum(0.25 <= float(str(one["share"])) < 0.75 for row, one in enumerate(PAYLOADS) if row % 50)
    assert answers[-1].plans[0].plan.matching == counted
    expected = answers[0].plans[0].plan.matching
    assert abs(expected - counted) < 0.05 * counted
    assert len({tuple(ids(view, one)) for one in answers}) == 1
    said = explained(view, answers[0], 1.0)["plans"][0]
    assert (said["method"], said["estimated"], said["matching"]) == ("graph", True, expected)
    assert "tested" in said["why"]


def test_what_lies_far_from_the_query_is_found_all_the_same(engine: LocalEngine) -> None:
    """A walk comes back short: then all that pass are found out, and no other walk is tried."""
    order = np.argsort(np.linalg.norm(VECTORS[:COUNT] - QUERIES[0], axis=1))
    near = [int(row) for row in order[: COUNT // 2]]
    engine.write("c", [PatchPayload(tuple(near), PayloadPatch(set={"near": True}))]).result()
    engine.write("c", [PatchPayload(tuple(set(range(COUNT)) - set(near)), PayloadPatch(set={"near": False}))]).result()
    fold(engine.collection("c"), engine, INDEXERS, threads=2)
    engine.upsert("c", [Point(id=COUNT, vectors={"": VECTORS[0]}, payload=b"{}")]).result()
    fold(engine.collection("c"), engine, INDEXERS, threads=2)
    view = engine.collection("c").view()
    assert not view.parts[0].patches
    far = ask(view, Match("near", (False,)))
    assert not far.plans[0].plan.estimated
    assert far.plans[0].plan.method is not Method.GRAPH
    assert ids(view, far) == [int(row) for row in order[COUNT // 2 :] if row % 50][:10]
    assert ask(view, Match("near", (True,))).plans[0].plan.estimated


def test_what_cannot_be_told_of_single_rows_is_found_out(engine: LocalEngine) -> None:
    view = engine.collection("c").view()
    for where in (
        Match("tags", ("x",)),  # some rows have several
        Filter(should=(Match("kind", ("a",)), Match("kind", ("b",)))),
        Filter(must=(HasId(tuple(range(3_000))),)),
        Range("share", gte=0.5, lt=0.505),  # so few that a walk would be in vain
        Filter(must=(Range("share", gte=0.2),), should=(Match("kind", ("a",)), Match("kind", ("b",)))),
        Filter(
            must=(Range("share", gte=0.3),), min_should=MinShould((Match("kind", ("a",)), Match("some", (True,))), 1)
        ),
        Filter(must=(Range("share", gte=0.1), Match("tags", ("x",)))),
        Match("both", (7, 70)),  # one of its two columns has rows with several values
    ):
        found = ask(view, where)
        assert not found.plans[0].plan.estimated
        passes = predicate(where)
        assert all(passes(one, PAYLOADS[int(one)], {""}) for one in ids(view, found))
    engine.write("c", [PatchPayload((5,), PayloadPatch(set={"share": 0.6}))]).result()
    patched = engine.collection("c").view()
    assert not ask(patched, Range("share", gte=0.5, lt=1)).plans[0].plan.estimated


def test_only_what_may_be_told_by_a_walk_is(engine: LocalEngine) -> None:
    view, where = engine.collection("c").view(), Range("share", gte=0.25, lt=0.75)
    passing = np.array(
        [row for row, one in enumerate(PAYLOADS) if row % 50 and 0.25 <= float(str(one["share"])) < 0.75]
    )
    order = passing[np.argsort(np.linalg.norm(VECTORS[passing] - QUERIES[0], axis=1), kind="stable")].tolist()
    for more in ({"exact": True}, {"force": Method.SCAN}, {"recall": 1.1}):
        found = ask(view, where, **more)
        assert not found.plans[0].plan.estimated
        assert ids(view, found) == order[:10]
        view = fresh(engine)
    together = search(view, QUERIES[:3], using="", k=10, where=where)
    assert not together[0].plans[0].plan.estimated
    assert ids(view, together[0]) == order[:10]


def test_all_that_pass_are_returned_where_all_are_asked_for(engine: LocalEngine) -> None:
    view, where = engine.collection("c").view(), Range("share", gte=0.25)
    passing = [row for row, one in enumerate(PAYLOADS) if row % 50 and float(str(one["share"])) >= 0.25]
    found = ask(view, where, k=COUNT + 1_000)
    assert sorted(map(int, ids(view, found))) == passing
    assert found.reason == f"only {len(passing)} match"
    assert len(ask(fresh(engine), where, k=len(passing))) == len(passing)


def test_nothing_is_walked_once_the_deadline_has_passed(engine: LocalEngine) -> None:
    found = ask(engine.collection("c").view(), Range("share", gte=0.25), deadline=Deadline.after_ms(0))
    assert not found.plans[0].plan.estimated


def test_more_than_pass_are_never_promised(engine: LocalEngine) -> None:
    view = engine.collection("c").view()
    few = Filter(must=(Range("share", gte=0, lt=0.5), Range("share", gte=0.4999, lt=1)))  # half of half, one expects
    found = ask(view, few)
    passing = [row for row, one in enumerate(PAYLOADS) if row % 50 and 0.4999 <= float(str(one["share"])) < 0.5]
    assert sorted(map(int, ids(view, found))) == sorted(passing)
    assert (found.complete, found.reason) == (False, f"only {len(passing)} match")


def test_ranks_tell_who_stands_in_a_part_of_the_order() -> None:
    random = np.random.default_rng(3)
    rows = random.permutation(1_000)[:700]
    ranks, asked = Ranks(rows, 1_000), np.arange(1_000)
    for many in (1, FEW_SPANS, FEW_SPANS + 1, 40):
        ends = np.sort(random.permutation(700)[: 2 * many]).reshape(-1, 2)
        wanted = np.concatenate([rows[start:stop] for start, stop in ends])
        found = ranks.within(asked, [(int(start), int(stop)) for start, stop in random.permutation(ends)])
        assert np.flatnonzero(found).tolist() == sorted(wanted.tolist())
    assert not ranks.within(asked, []).any()
    with pytest.raises(ValueError, match="twice"):
        Ranks(np.array([1, 2, 1]), 5)
