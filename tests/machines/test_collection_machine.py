"""Random writes, folds, imports, restarts and reads against a dictionary and numpy."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from indexers.registry import INDEXERS
from tests.storage.filter_strategies import CONDITIONS, PAYLOADS
from vss.changes import Delete, DeleteVectors, PatchPayload, UpdateVectors
from vss.engines.local import LocalEngine
from vss.filters import Condition, Filter, matches
from vss.patches import PayloadPatch, patched
from vss.points import Point, id_key
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage.build import Block, SegmentBuilder
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.imports import Mode, adopt
from vss.types import Metric, PointId

DIM = 3
IDS = st.one_of(st.integers(0, 6), st.sampled_from(["0", "1", "x"]))
FILTERS = CONDITIONS.map(lambda condition: Filter(must=(condition,)))
PATHS = st.sampled_from([None, "a", "b.a", "a[]", "c"])
PATCHES = st.builds(
    PayloadPatch,
    clear=st.booleans(),
    set=st.none() | PAYLOADS,
    overwrite=st.booleans(),
    key=PATHS,
    delete=st.lists(st.sampled_from(["a", "b", "a.b", "a[].b", "missing"]), max_size=2).map(tuple),
)
VECTORS = st.lists(st.integers(-4, 4), min_size=DIM, max_size=DIM)
Stored = tuple[list[int] | None, dict[str, object], int]


def passes(where: Condition, point_id: PointId, stored: Stored) -> bool:
    """The filter's own meaning."""
    return matches(where, point_id, stored[1], () if stored[0] is None else ("",))


class CollectionMachine(RuleBasedStateMachine):
    """The model: id -> (vector or None, payload, version)."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[PointId, Stored] = {}
        self.engine = LocalEngine(DataDir(self.folder), INDEXERS, writable=True)
        self.engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}))
        self.reader = LocalEngine(self.engine.data, INDEXERS, writable=False)
        self.imports = 0

    def teardown(self) -> None:
        self.reader.close()
        self.engine.close()
        shutil.rmtree(self.folder)

    @rule(points=st.lists(st.tuples(IDS, VECTORS, PAYLOADS), min_size=1, max_size=4))
    def upsert(self, points: list[tuple[PointId, list[int], dict[str, object]]]) -> None:
        seq = self.engine.upsert("c", [self._point(*point) for point in points]).result()
        for point_id, vector, payload in points:
            self.model[point_id] = (vector, payload, seq)

    @rule(ids=st.lists(IDS, min_size=1, max_size=3))
    def delete(self, ids: list[PointId]) -> None:
        self.engine.remove("c", ids).result()
        for point_id in ids:
            self.model.pop(point_id, None)

    def _passing(self, where: Condition | None) -> list[PointId]:
        return [one for one, stored in self.model.items() if where is None or passes(where, one, stored)]

    @rule(where=FILTERS)
    def delete_by_filter(self, where: Filter) -> None:
        gone = self._passing(where)
        self.engine.write("c", [Delete(where)]).result()
        for point_id in gone:
            del self.model[point_id]

    @rule(select=st.lists(IDS, max_size=3) | FILTERS, patch=PATCHES)
    def patch_payload(self, select: list[PointId] | Filter, patch: PayloadPatch) -> None:
        chosen = self._passing(select) if isinstance(select, Filter) else dict.fromkeys(select)
        change = PatchPayload(select if isinstance(select, Filter) else tuple(select), patch)
        seq = self.engine.write("c", [change]).result()
        for point_id in chosen:
            if point_id in self.model:
                vector, payload, _ = self.model[point_id]
                after = json.loads(patched(json.dumps(payload).encode(), patch))
                self.model[point_id] = (vector, after, seq)

    @rule(points=st.lists(st.tuples(IDS, VECTORS), max_size=3))
    def update_vectors(self, points: list[tuple[PointId, list[int]]]) -> None:
        change = UpdateVectors([self._point(point_id, vector, {"ignored": 1}) for point_id, vector in points])
        seq = self.engine.write("c", [change]).result()
        for point_id, vector in points:
            if point_id in self.model:
                self.model[point_id] = (vector, self.model[point_id][1], seq)

    @rule(ids=st.lists(IDS, max_size=2))
    def delete_vectors(self, ids: list[PointId]) -> None:
        seq = self.engine.write("c", [DeleteVectors(tuple(ids), ("", "other"))]).result()
        for point_id in ids:
            if point_id in self.model:
                self.model[point_id] = (None, self.model[point_id][1], seq)

    @rule()
    def fold(self) -> None:
        fold(self.engine.collection("c"), self.engine, INDEXERS, threads=1)

    @rule()
    def seal(self) -> None:
        seal(self.engine.collection("c"), self.engine, INDEXERS)

    @rule(target=held, points=st.lists(st.tuples(IDS, VECTORS, PAYLOADS), min_size=1, max_size=4))
    def start_import(self, points: list[tuple[PointId, list[int], dict[str, object]]]) -> object:
        collection = self.engine.collection("c")
        started = collection.log.last_seq()
        self.imports += 1
        with SegmentBuilder(collection.schema, collection.staging / str(self.imports)) as builder:
            stored = [self._point(*point) for point in points]
            builder.add(
                Block(
                    keys=[id_key(point.id) for point in stored],
                    payloads=[point.payload for point in stored],
                    versions=np.full(len(stored), started),
                    vectors={"": (np.arange(len(stored)), np.stack([point.vectors[""] for point in stored]))},
                )
            )
            record = builder.finish(collection.artifacts, INDEXERS, IndexSettings(kind="flat"), threads=1)
        return record, started, points

    @rule(job=consumes(held), mode=st.sampled_from(Mode))
    def finish_import(self, job: tuple, mode: Mode) -> None:
        record, started, points = job
        collection = self.engine.collection("c")
        later = collection.log.keys_after(started)
        adopt(
            collection,
            record,
            started_seq=started,
            mode=mode,
            publisher=self.engine,
            indexers=INDEXERS,
            models={},
            source="machine",
        )
        if mode is Mode.REPLACE:
            self.model = {one: stored for one, stored in self.model.items() if stored[2] > started}
        newer = {one for one, stored in self.model.items() if stored[2] > started}
        for point_id, vector, payload in points:
            if id_key(point_id) not in later and point_id not in newer:
                self.model[point_id] = (vector, payload, started)

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = LocalEngine(self.engine.data, INDEXERS, writable=True)

    @rule(query=VECTORS, k=st.integers(1, 12), where=st.none() | CONDITIONS)
    def search(self, query: list[int], k: int, where: Condition | None) -> None:
        view = self.reader.collection("c").view()
        (found,) = search(view, np.asarray([query], np.float32), using="", k=k, where=where)
        passing = {
            one: vector
            for one, (vector, payload, _) in self.model.items()
            if vector is not None and (where is None or passes(where, one, (vector, payload, 0)))
        }
        distances = sorted(float(np.linalg.norm(np.subtract(query, vector))) for vector in passing.values())[:k]
        np.testing.assert_allclose(-found.scores, distances, rtol=1e-5, atol=1e-5)
        for part, row, score in zip(found.parts, found.rows, found.scores, strict=True):
            point_id = view.parts[part].point(int(row)).id
            np.testing.assert_allclose(-score, np.linalg.norm(np.subtract(query, passing[point_id])), atol=1e-5)
        assert found.complete == (len(passing) >= k)
        assert view.count(where) == len(self._passing(where))

    @rule(limit=st.integers(1, 3), where=st.none() | CONDITIONS)
    def scroll(self, limit: int, where: Condition | None) -> None:
        view = self.reader.collection("c").view()
        seen: list[PointId] = []
        start: PointId | None = None
        while True:
            page, start = view.scroll(where, start, limit)
            seen += [part.point(row).id for part, row in page]
            if start is None:
                break
        assert seen == sorted(self._passing(where), key=id_key)

    @invariant()
    def everything_is_there(self) -> None:
        for engine in (self.engine, self.reader):
            view = engine.collection("c").view()
            assert view.points == len(self.model)
            for point_id, (vector, payload, _) in self.model.items():
                (point,) = view.retrieve([point_id])
                stored = point.vectors.get("")
                assert (None if stored is None else stored.tolist()) == vector
                assert json.loads(point.payload) == payload

    @staticmethod
    def _point(point_id: PointId, vector: list[int], payload: dict[str, object]) -> Point:
        return Point(id=point_id, vectors={"": np.asarray(vector, np.float32)}, payload=json.dumps(payload).encode())


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


@pytest.mark.soak
class TestCollectionSoak(CollectionMachine.TestCase):  # type: ignore[misc]
    """The same for longer: some 100,000 steps."""

    settings = settings(max_examples=2_000, stateful_step_count=50, deadline=None)
