"""Random writes, folds, imports, promotions, restarts and reads against a dictionary and numpy.

Every step is checked in the writer, in a second reader of this process, and in a second process. Indexes of every kind
are built of a few dozen points, so that the graph of `native` is extended again and again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from indexers.registry import INDEXERS, native_compiled
from tests.machines import model as mind
from tests.machines.model import Model, Stored, Vector
from tests.machines.reading_process import ReadingProcess
from tests.storage.filter_strategies import CONDITIONS, PAYLOADS
from vss.changes import Delete, DeleteVectors, PatchPayload, UpdateMode, UpdateVectors, Upsert
from vss.engines.local import LocalEngine
from vss.filters import Condition, Filter, matches
from vss.jobs.collect import collect
from vss.patches import PayloadPatch
from vss.points import Point, id_key
from vss.protocols import Extender, Growing, IndexBuilder, IndexSpec
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.search.retrieve import search
from vss.storage import history
from vss.storage.build import Block, SegmentBuilder
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.imports import Mode, adopt
from vss.storage.staging import hold_log, staging_folder
from vss.types import Metric, PointId

DIM = 3
MANY = 100
"""The first id of points that come by the dozen, to be worth an index."""

IDS = st.one_of(st.integers(0, 6), st.integers(MANY, MANY + 40), st.sampled_from(["0", "1", "x"]))
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
VECTORS = st.tuples(*[st.integers(-4, 4)] * DIM)
ROWS = st.lists(st.tuples(IDS, st.none() | VECTORS, PAYLOADS), min_size=1, max_size=4)
WHOLE_ROWS = st.lists(st.tuples(IDS, VECTORS, PAYLOADS), min_size=1, max_size=4)
KINDS = ["flat", "faiss_hnsw", "faiss_ivf", *(["native"] * 3 if native_compiled() else [])]

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the folders lie: what survives a power cut is proved elsewhere, and here each step would wait for the disk."""

SEEN: Counter[str] = Counter()
"""What the runs have come to: a machine that never gets to a fold proves nothing of it."""


class Watched:
    """`INDEXERS`, counting what is built, and where a graph went on from the one before."""

    def builder(self, kind: str) -> IndexBuilder:
        """That of the registry."""
        made = INDEXERS.builder(kind)
        build = made.build

        def counted(*given: Any, **options: Any) -> None:
            SEEN[f"built {kind}"] += 1
            build(*given, **options)

        made.build = counted  # type: ignore[method-assign]
        if isinstance(made, Extender):
            extend = made.extend

            def went_on(*given: Any, **options: Any) -> None:
                before = SEEN[f"built {kind}"]
                extend(*given, **options)
                SEEN[f"extended {kind}"] += SEEN[f"built {kind}"] == before

            made.extend = went_on  # type: ignore[method-assign]
        return made

    def choose(self, *given: Any) -> IndexSpec:
        """That of the registry."""
        return INDEXERS.choose(*given)

    def growing(self, *given: Any) -> Growing:
        """That of the registry."""
        return INDEXERS.growing(*given)


class CollectionMachine(RuleBasedStateMachine):
    """`model` says what every reader must see; `generations` which can be promoted."""

    held = Bundle("held")
    process: ReadingProcess

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.indexers = Watched()
        self.model = Model()
        self.jobs = ExitStack()
        self.engine = LocalEngine(DataDir(self.folder), self.indexers, writable=True)
        self.reader = LocalEngine(self.engine.data, self.indexers, writable=False)

    @initialize(metric=st.sampled_from([Metric.EUCLID, Metric.DOT]), kind=st.sampled_from(KINDS))
    def create(self, metric: Metric, kind: str) -> None:
        self.metric = metric
        self.engine.create(
            "c", Schema(vectors={"": VectorSchema(dim=DIM, metric=metric)}, index=IndexSettings(kind=kind))
        )

    def teardown(self) -> None:
        self.jobs.close()
        self.reader.close()
        self.engine.close()
        shutil.rmtree(self.folder)

    def _write(self, change: Any, operations: Any) -> None:
        """Let the engine and the model do the same; both give the number of the last operation."""
        got = self.engine.write("c", [change]).result()
        assert got == self.model.write(operations)

    def _passing(self, where: Condition) -> list[PointId]:
        return self.model.passing(lambda one, stored: matches(where, one, stored.payload, stored.names()))

    @rule(points=ROWS, mode=st.sampled_from([UpdateMode.UPSERT, *UpdateMode]))
    def upsert(self, points: list[tuple[PointId, Vector | None, dict[str, Any]]], mode: UpdateMode) -> None:
        wanted = points
        if mode is not UpdateMode.UPSERT:
            there = mode is UpdateMode.UPDATE_ONLY
            last = {id_key(one[0]): one for one in points}
            wanted = [one for one in last.values() if (one[0] in self.model.state) is there]
        self._write(
            Upsert([_point(*one) for one in points], mode),
            [(one, mind.upserted(vector, payload)) for one, vector, payload in wanted],
        )

    @rule(first=st.integers(MANY, MANY + 30), count=st.integers(10, 40), number=st.integers(0, 50))
    def upsert_many(self, first: int, count: int, number: int) -> None:
        drawn = np.random.default_rng(number).integers(-9, 10, (count, DIM)).tolist()
        points = [(first + row, tuple(vector), {"a": row % 3}) for row, vector in enumerate(drawn)]
        self._write(Upsert([_point(*one) for one in points]), [(one, mind.upserted(*rest)) for one, *rest in points])

    @rule(ids=st.lists(IDS, min_size=1, max_size=6))
    def delete(self, ids: list[PointId]) -> None:
        self._write(Delete(tuple(ids)), [(one, mind.deleted) for one in ids])

    @rule(where=FILTERS)
    def delete_by_filter(self, where: Filter) -> None:
        gone = self._passing(where)
        assert self.engine.preview("c", Delete(where)) == len(gone)
        self._write(Delete(where), [(one, mind.deleted) for one in gone])

    @rule(select=st.lists(IDS, max_size=3) | FILTERS, patch=PATCHES)
    def patch_payload(self, select: list[PointId] | Filter, patch: PayloadPatch) -> None:
        chosen = self._passing(select) if isinstance(select, Filter) else self._there(select)
        change = PatchPayload(select if isinstance(select, Filter) else tuple(select), patch)
        self._write_in_any_order(change, chosen, mind.payload_patched(patch))

    def _there(self, ids: list[PointId]) -> list[PointId]:
        return [one for one in dict.fromkeys(ids) if one in self.model.state]

    def _write_in_any_order(self, change: Any, chosen: list[PointId], effect: Any) -> None:
        """Of points that a filter selects no order is promised: theirs is that of the log."""
        began = self.model.seq
        got = self.engine.write("c", [change]).result()
        assert got == began + len(chosen)
        view = self.engine.collection("c").view()
        order = {point.id: point.version for point in view.retrieve(chosen)}
        assert sorted(order.values()) == list(range(began + 1, got + 1))
        self.model.write([(one, effect) for one in sorted(chosen, key=order.__getitem__)])

    @rule(points=st.lists(st.tuples(IDS, VECTORS), max_size=3))
    def update_vectors(self, points: list[tuple[PointId, Vector]]) -> None:
        self._write(
            UpdateVectors([_point(one, vector, {"ignored": 1}) for one, vector in points]),
            [(one, mind.vector_set(vector)) for one, vector in points if one in self.model.state],
        )

    @rule(select=st.lists(IDS, max_size=2) | FILTERS)
    def delete_vectors(self, select: list[PointId] | Filter) -> None:
        chosen = self._passing(select) if isinstance(select, Filter) else self._there(select)
        change = DeleteVectors(select if isinstance(select, Filter) else tuple(select), ("", "other"))
        self._write_in_any_order(change, chosen, mind.vector_set(None))

    @rule(kind=st.sampled_from(KINDS))
    def change_index(self, kind: str) -> None:
        self.engine.change_index("c", IndexSettings(kind=kind))

    @rule()
    def fold(self) -> None:
        before = self._newest()
        fold(self.engine.collection("c"), self.engine, self.indexers, threads=1)
        self.model.sealed(range(before + 1, self._newest() + 1))

    @rule()
    def seal(self) -> None:
        made = seal(self.engine.collection("c"), self.engine, self.indexers)
        self.model.sealed([made.generation])

    def _newest(self) -> int:
        return self.engine.collection("c").log.newest_generation()

    @rule(target=held, points=WHOLE_ROWS)
    def start_import(self, points: list[tuple[PointId, Vector, dict[str, Any]]]) -> object:
        collection = self.engine.collection("c")
        started = self.model.seq
        folder = self.jobs.enter_context(staging_folder(collection.staging, "adopt"))
        hold_log(folder, collection.folder.name, started)
        stored = [_point(*point) for point in points]
        with SegmentBuilder(collection.schema, folder / "segment") as builder:
            builder.add(
                Block(
                    keys=[id_key(point.id) for point in stored],
                    payloads=[point.payload for point in stored],
                    versions=np.full(len(stored), started),
                    vectors={"": (np.arange(len(stored)), np.stack([point.vectors[""] for point in stored]))},
                )
            )
            record = builder.finish(collection.artifacts, self.indexers, collection.schema.index, threads=1)
        return record, started, {one: Stored(vector, payload, started) for one, vector, payload in points}

    @rule(job=consumes(held), mode=st.sampled_from(Mode))
    def finish_import(self, job: tuple[Any, int, mind.State], mode: Mode) -> None:
        record, started, points = job
        before = self._newest()
        adopt(
            self.engine.collection("c"),
            record,
            started_seq=started,
            mode=mode,
            publisher=self.engine,
            indexers=self.indexers,
            models={},
            source="machine",
        )
        *sealed, number = range(before + 1, self._newest() + 1)
        self.model.sealed(sealed)
        self.model.adopted(number, points, started, replaced=mode is Mode.REPLACE)
        SEEN["import"] += 1

    @precondition(lambda self: len(self.model.generations) > 1)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.generations)))
        self.engine.promote("c", number)
        self.model.promoted(number)
        SEEN["promotion"] += 1

    @rule(keep=st.integers(1, 3))
    def collect(self, keep: int) -> None:
        retired, garbage = collect(self.engine.data, self.engine.entry("c").id, self.engine, keep=keep)
        for number in retired.generations:
            del self.model.generations[number]
        left = [one.generation for one in history.retained(self.engine.collection("c").log)]
        assert left == sorted(self.model.generations)
        SEEN["collected files"] += len(garbage)
        SEEN["pruned operations"] += retired.operations

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = LocalEngine(self.engine.data, self.indexers, writable=True)

    @rule(query=VECTORS, k=st.integers(1, 60), where=st.none() | CONDITIONS, exact=st.booleans())
    def search(self, query: Vector, k: int, where: Condition | None, exact: bool) -> None:
        view = self.reader.collection("c").view()
        (found,) = search(
            view,
            np.asarray([query], np.float32),
            using="",
            k=k,
            where=where,
            exact=exact,
            effort=None if exact else 1024,
        )
        passing = self.model.state if where is None else self._passing(where)
        scores = {
            one: mind.score(self.metric, query, vector)
            for one in passing
            if (vector := self.model.state[one].vector) is not None
        }
        ids = [view.parts[part].point(int(row)).id for part, row in zip(found.parts, found.rows, strict=True)]
        assert len(set(map(id_key, ids))) == len(ids) == min(k, len(scores))
        assert found.complete == (len(scores) >= k)
        np.testing.assert_allclose(found.scores, [scores[one] for one in ids], rtol=1e-5, atol=1e-5)
        graphs = {plan.plan.method for plan in found.plans}
        SEEN[f"search by {' and '.join(sorted(graphs)) or 'nothing'}"] += 1
        # So wide a walk, or so many lists, see every point: what is missing was lost.
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.scores, best, rtol=1e-5, atol=1e-5)
        assert view.count(where) == len(passing)

    @rule(limit=st.integers(1, 30), where=st.none() | CONDITIONS)
    def scroll(self, limit: int, where: Condition | None) -> None:
        view = self.reader.collection("c").view()
        seen: list[PointId] = []
        start: PointId | None = None
        while True:
            page, start = view.scroll(where, start, limit)
            seen += [part.point(row).id for part, row in page]
            if start is None:
                break
        wanted = self.model.state if where is None else self._passing(where)
        assert seen == sorted(wanted, key=id_key)

    @invariant()
    def everything_is_there_for_every_reader(self) -> None:
        SEEN["steps"] += 1
        self.process.ask(self.folder)  # it reads at the same time
        wanted = {
            one: (None if stored.vector is None else list(stored.vector), stored.payload, stored.version)
            for one, stored in self.model.state.items()
        }
        for engine in (self.engine, self.reader):
            view = engine.collection("c").view()
            assert (view.points, view.generation) == (len(wanted), self.model.current)
            found = {}
            for point in view.retrieve([*wanted, 7, "7", "y"]):
                vector = point.vectors.get("")
                shown = None if vector is None else vector.tolist()
                found[point.id] = (shown, json.loads(point.payload), point.version)
            assert found == wanted
        there = self.process.answer()
        assert there["generation"] == self.model.current
        assert {one: tuple(rest) for one, *rest in there["points"]} == wanted
        assert len(there["points"]) == len(wanted)


def _point(point_id: PointId, vector: Vector | None, payload: dict[str, Any]) -> Point:
    vectors = {} if vector is None else {"": np.asarray(vector, np.float32)}
    return Point(id=point_id, vectors=vectors, payload=json.dumps(payload).encode())
