"""Which rows count after a bulk import, whatever was written while it ran."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.storage.conftest import DIM
from vss.engines.local import LocalEngine
from vss.points import Point, id_key
from vss.protocols import Indexers
from vss.schema import IndexSettings
from vss.storage.artifacts import Artifact, ArtifactStore
from vss.storage.build import Block, SegmentBuilder
from vss.storage.fold import fold
from vss.storage.imports import Mode, adopt
from vss.storage.manifest import Manifest, SegmentRecord
from vss.storage.npy import map_npy
from vss.storage.publish import with_tombstones
from vss.storage.segment import Segment


def value(engine: LocalEngine, point_id: int) -> float | None:
    found = engine.collection("c").view().retrieve([point_id])
    return float(found[0].vectors[""][0]) if found else None


def write(engine: LocalEngine, point_id: int, number: float) -> None:
    engine.upsert("c", [Point(id=point_id, vectors={"": np.full(DIM, number, np.float32)})]).result()


class Import:
    """An import of some ids, all with one value, that can be started and adopted at different moments."""

    def __init__(self, engine: LocalEngine, indexers: Indexers) -> None:
        self.engine = engine
        self.indexers = indexers
        self.collection = engine.collection("c")
        self.started_seq = self.collection.log.last_seq()

    def build(self, ids: list[int], number: float) -> SegmentRecord:
        with SegmentBuilder(self.collection.schema, self.collection.staging / f"test-{number}") as builder:
            builder.add(
                Block(
                    keys=[id_key(one) for one in ids],
                    payloads=[b"{}"] * len(ids),
                    versions=np.full(len(ids), self.started_seq),
                    vectors={"": (np.arange(len(ids)), np.full((len(ids), DIM), number, np.float32))},
                )
            )
            settings = IndexSettings(kind="flat")
            return builder.finish(self.collection.artifacts, self.indexers, settings, threads=1)

    def adopt(self, record: SegmentRecord, mode: Mode = Mode.UPSERT) -> Manifest:
        return adopt(
            self.collection,
            record,
            started_seq=self.started_seq,
            mode=mode,
            publisher=self.engine,
            indexers=self.indexers,
            models={},
            source="test",
        )


@pytest.mark.parametrize("fold_before", [False, True])
@pytest.mark.parametrize("fold_after", [False, True])
@pytest.mark.parametrize("mode", list(Mode))
def test_later_writes_win_and_earlier_ones_lose(
    engine: LocalEngine, indexers: Indexers, mode: Mode, fold_before: bool, fold_after: bool
) -> None:
    for one in (1, 2, 3, 4, 5):
        write(engine, one, 10.0)
    if fold_before:
        fold(engine.collection("c"), engine, indexers, threads=1)
    engine.remove("c", [5]).result()
    job = Import(engine, indexers)
    record = job.build([1, 2, 3, 5, 6], 20.0)
    write(engine, 2, 30.0)
    engine.remove("c", [3]).result()
    write(engine, 7, 30.0)
    if fold_after:
        fold(engine.collection("c"), engine, indexers, threads=1)
    job.adopt(record, mode)
    kept = 10.0 if mode is Mode.UPSERT else None
    wanted = {1: 20.0, 2: 30.0, 3: None, 4: kept, 5: 20.0, 6: 20.0, 7: 30.0}
    assert {one: value(engine, one) for one in wanted} == wanted
    fold(engine.collection("c"), engine, indexers, threads=1)
    assert {one: value(engine, one) for one in wanted} == wanted


def test_the_later_import_wins(engine: LocalEngine, indexers: Indexers) -> None:
    first = Import(engine, indexers)
    first.adopt(first.build([1, 2], 1.0))
    second = Import(engine, indexers)
    second.adopt(second.build([2, 3], 2.0))
    assert [value(engine, one) for one in (1, 2, 3)] == [1.0, 2.0, 2.0]
    assert engine.collection("c").view().points == 3


def test_jobs_that_mark_tombstones_at_one_time_keep_their_own(
    engine: LocalEngine, indexers: Indexers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Import(engine, indexers)
    first.adopt(first.build([1, 2, 3], 1.0))
    collection = engine.collection("c")
    (segment,) = (part.body for part in collection.view().parts if isinstance(part.body, Segment))
    add = ArtifactStore.add
    others: list[SegmentRecord] = []

    def add_late(self: ArtifactStore, source: Path) -> Artifact:
        if not others:
            others.append(segment.record)
            others.append(with_tombstones(collection, segment, np.array([False, False, True]), tmp_path))
        return add(self, source)

    monkeypatch.setattr(ArtifactStore, "add", add_late)
    mine = with_tombstones(collection, segment, np.array([False, True, True]), tmp_path)
    for record, dead in ((mine, [0]), (others[1], [0, 1])):
        assert record.tombstones is not None
        assert map_npy(collection.artifacts.path(record.tombstones)).tolist() == dead


def test_of_two_rows_with_one_id_the_later_counts(engine: LocalEngine, indexers: Indexers) -> None:
    job = Import(engine, indexers)
    with SegmentBuilder(job.collection.schema, job.collection.staging / "twice") as builder:
        for number in (1.0, 2.0):
            vectors = {"": (np.arange(1), np.full((1, DIM), number, np.float32))}
            builder.add(Block(keys=[id_key(9)], payloads=[b"{}"], versions=np.zeros(1, np.int64), vectors=vectors))
        record = builder.finish(job.collection.artifacts, indexers, IndexSettings(kind="flat"), threads=1)
    job.adopt(record)
    assert value(engine, 9) == 2.0
    assert engine.collection("c").view().points == 1
