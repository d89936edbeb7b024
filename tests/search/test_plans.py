"""Every plan, forced in turn, returns what the filter means: random schemas, payloads, filters, deletes and segments.

Exact plans return the oracle's ids. Graphs may miss some of the best, but return rows that match, and as many as asked
for wherever so many match.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from indexers.registry import INDEXERS, native_compiled
from tests.storage.filter_strategies import CONDITIONS, PAYLOADS
from vss.changes import PatchPayload
from vss.distance import exact_search
from vss.engines.local import LocalEngine
from vss.filters import Condition, predicate
from vss.patches import PayloadPatch
from vss.points import Point
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.plan import Method
from vss.search.retrieve import Found, search
from vss.storage.compact import compact
from vss.storage.datadir import DataDir
from vss.storage.fold import seal
from vss.storage.segment import Segment
from vss.storage.view import View
from vss.types import Metric, Vectors
from vss.vectors import as_vectors

KINDS = (*(["native"] if native_compiled() else []), "faiss_hnsw")


@dataclass(frozen=True)
class World:
    """What a collection is made of.

    metrics: of each vector name; payloads: what rows have, drawn by `seed` as the rest of the points is
    """

    metrics: dict[str, Metric]
    dim: int
    payloads: list[dict[str, object]]
    seed: int


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = draw(st.sampled_from([("",), ("", "other"), ("text", "other")]))
    # Manhattan has no graph: it is one of two names at most, so that graphs are asked in every example.
    last = st.sampled_from(list(Metric) if len(names) > 1 else [Metric.COSINE, Metric.DOT, Metric.EUCLID])
    first = draw(st.sampled_from([Metric.COSINE, Metric.DOT, Metric.EUCLID]))
    return World(
        metrics={names[0]: first, **{name: draw(last) for name in names[1:]}},
        dim=draw(st.sampled_from([3, 8, 17])),
        payloads=draw(st.lists(PAYLOADS, min_size=8, max_size=30)),
        seed=draw(st.integers(0, 2**20)),
    )


class Built:
    """The collection, and beside it what it should hold.

    Segments: one whose index was extended, one of another kind, a flat one; and the live part.
    """

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.random = np.random.default_rng(world.seed)
        self.held: dict[int | str, tuple[dict[str, object], dict[str, Vectors]]] = {}
        self.engine = LocalEngine(DataDir(folder), INDEXERS, writable=True)
        vectors = {name: VectorSchema(dim=world.dim, metric=metric) for name, metric in world.metrics.items()}
        self.engine.create("c", Schema(vectors=vectors))
        self.collection = self.engine.collection("c")
        self._write(range(300))
        self._index(KINDS[0], 1)
        self._write(range(300, 390))
        self._change(range(390))
        self._index(KINDS[0], 2)
        self._write(range(390, 560))
        self._index(KINDS[-1], 1)
        self._write([*range(560, 640), *range(0, 640, 60)])
        self._change(range(640))
        seal(self.collection, self.engine, INDEXERS)
        self._write([*range(640, 670), *range(5, 670, 60)])
        self._change(range(670))

    def _write(self, rows: Iterable[int]) -> None:
        points = []
        for row in rows:
            vectors = {
                name: as_vectors(self.random.normal(size=(1, self.world.dim)), self.world.dim, metric)[0]
                for name, metric in self.world.metrics.items()
                if self.random.random() < 0.8
            }
            payload = self.world.payloads[self.random.integers(len(self.world.payloads))]
            points.append(Point(id=name_of(row), vectors=vectors, payload=msgspec.json.encode(payload)))
            self.held[name_of(row)] = payload, vectors
        self.engine.upsert("c", points).result()

    def _change(self, rows: range) -> None:
        """Some points go, some get another payload."""
        chosen = [name_of(row) for row in self.random.choice(np.asarray(rows), 24, replace=False).tolist()]
        gone, kept = chosen[:12], [one for one in chosen[12:] if one in self.held]
        self.engine.remove("c", gone).result()
        for one in gone:
            self.held.pop(one, None)
        payload = self.world.payloads[0]
        self.engine.write("c", [PatchPayload(tuple(kept), PayloadPatch(set=payload, overwrite=True))]).result()
        for one in kept:
            self.held[one] = payload, self.held[one][1]

    def _index(self, kind: str, newest: int) -> None:
        """Make the newest segments one, with an index of that kind where the metric has one."""
        manifest = seal(self.collection, self.engine, INDEXERS)
        if Metric.MANHATTAN in self.world.metrics.values():
            kind = "auto"
        self.engine.change_index("c", IndexSettings(kind=kind))
        compact(self.collection, manifest.segments[-newest:], self.engine, INDEXERS, threads=1, min_recall=0)

    def truth(self, query: Vectors, using: str, where: Condition | None) -> dict[object, float]:
        """The score of each point that may be returned."""
        passes = (lambda *_: True) if where is None else predicate(where)
        found = [one for one, (payload, has) in self.held.items() if using in has and passes(one, payload, has)]
        if not found:
            return {}
        vectors = np.stack([self.held[one][1][using] for one in found])
        hits = exact_search(query, vectors, len(found), self.world.metrics[using])
        return {found[row]: float(score) for row, score in zip(hits.rows[0], hits.scores[0], strict=True)}


def name_of(row: int) -> int | str:
    return row if row % 3 else str(row)


def check(view: View, found: Found, truth: dict[object, float], k: int, *, exact: bool) -> None:
    places = zip(found.parts.tolist(), found.rows.tolist(), strict=True)
    ids = [view.parts[part].point(row).id for part, row in places]
    assert len(set(ids)) == len(ids) == min(k, len(truth))
    assert set(ids) <= truth.keys()
    np.testing.assert_allclose(found.scores, [truth[one] for one in ids], rtol=1e-5, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()
    assert found.complete == (len(truth) >= k)
    assert found.reason == (None if found.complete else f"only {len(truth)} match")
    if exact:
        best = sorted(truth.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.scores, best, rtol=1e-5, atol=1e-5)


def prove(world: World, wheres: list[Condition], ks: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = Built(world, Path(folder))
        try:
            view = built.collection.view()
            random = np.random.default_rng(world.seed + 1)
            for where in [None, *wheres]:
                for using, metric in world.metrics.items():
                    query = as_vectors(random.normal(size=(1, world.dim)), world.dim, metric)
                    truth = built.truth(query, using, where)
                    for k in ks:
                        ask = partial(search, view, query, using=using, k=k, where=where)
                        check(view, ask(exact=True)[0], truth, k, exact=True)
                        check(view, ask()[0], truth, k, exact=False)
                        check(view, ask(force=Method.SCAN)[0], truth, k, exact=True)
                        check(view, ask(force=Method.GRAPH, effort=10)[0], truth, k, exact=False)
                        check(view, ask(force=Method.GRAPH)[0], truth, k, exact=False)
        finally:
            built.engine.close()


WHERES = st.lists(CONDITIONS, min_size=15, max_size=25)
KS = st.sampled_from([[1, 1_000], [10, 1_000], [40, 1_000]])
QUICK = settings(deadline=None, derandomize=True, report_multiple_bugs=False, phases=(Phase.explicit, Phase.generate))


def test_the_collections_have_all_kinds_of_segments(tmp_path: Path) -> None:
    built = Built(World({"": Metric.COSINE}, 8, [{"a": 1}, {"a": "x"}], 3), tmp_path)
    view = built.collection.view()
    kinds = [part.body.record.vectors[""].index.kind for part in view.parts if isinstance(part.body, Segment)]
    assert kinds == [KINDS[0], KINDS[-1], "flat"]
    assert all(part.alive is not None and not part.alive.all() for part in view.parts)
    assert [bool(part.patches) for part in view.parts] == [True, True, True, False]
    assert view.points == len(built.held)
    query = as_vectors(np.ones((1, 8)), 8, Metric.COSINE)
    for method, wanted in ((Method.GRAPH, ["graph", "graph", "scan", "scan"]), (Method.SCAN, ["scan"] * 4)):
        (found,) = search(view, query, using="", k=5, force=method)
        assert [one.plan.method.value for one in found.plans] == wanted
    built.engine.close()


@settings(QUICK, max_examples=3)
@given(worlds(), WHERES, KS)
def test_every_plan_means_the_same(world: World, wheres: list[Condition], ks: list[int]) -> None:
    prove(world, wheres, ks)


@pytest.mark.soak
@settings(QUICK, max_examples=250)
@given(worlds(), st.lists(CONDITIONS, min_size=40, max_size=60), KS)
def test_every_plan_means_the_same_at_length(world: World, wheres: list[Condition], ks: list[int]) -> None:
    prove(world, wheres, ks)
