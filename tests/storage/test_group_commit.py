"""What a write costs the disk, how long it waits, and what happens when the live part cannot be sealed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import apsw
import numpy as np
import pytest

from indexers.registry import INDEXERS
from tests.storage.conftest import DIM
from vss.changes import Delete, PatchPayload, Upsert
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.patches import PayloadPatch
from vss.points import Point
from vss.schema import Schema, VectorSchema
from vss.storage.answers import Answer
from vss.storage.commit import Commit
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.types import Metric


def points(ids: range, value: float = 0.0) -> list[Point]:
    return [Point(id=number, vectors={"": np.full(DIM, value, np.float32)}) for number in ids]


class _Syncs(apsw.VFS):
    """Counts the syncs of every file that SQLite opens."""

    def __init__(self) -> None:
        self.count = 0
        self.base = apsw.vfs_names()[0]
        super().__init__("counting", self.base, makedefault=True)

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
        syncs = self

        class File(apsw.VFSFile):
            def __init__(self) -> None:
                super().__init__(syncs.base, name, flags)  # type: ignore[arg-type]

            def xSync(self, flags: int) -> None:
                syncs.count += 1
                super().xSync(flags)

        return File()


@pytest.fixture
def syncs() -> Iterator[_Syncs]:
    """Of SQLite in this process, as long as the test runs."""
    vfs = _Syncs()
    yield vfs
    vfs.unregister()


def test_thirty_two_writers_share_syncs_and_wait_for_at_most_three_commits(syncs: _Syncs, data: DataDir) -> None:
    engine = LocalEngine(data, INDEXERS, writable=True)
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}))
    commits: list[Commit] = []
    engine.observe = commits.append
    engine.upsert("c", points(range(1))).result()
    before, writes = syncs.count, 1_600
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: engine.upsert("c", points(range(number, number + 1))).result(), range(writes)))
    assert syncs.count > before
    assert (syncs.count - before) / writes <= 0.2
    waits = [one for commit in commits[1:] for one in commit.waits]
    assert len(waits) == writes
    assert np.quantile(waits, 0.99) <= 3
    alone = len(commits)
    for number in range(20):
        engine.upsert("c", points(range(number, number + 1))).result()
    assert len(commits) == alone + 20
    assert engine.collection("c").view().points == writes
    engine.close()


def test_a_batch_with_a_key_that_was_cut_off_goes_on_where_it_was(engine: LocalEngine) -> None:
    engine.upsert("c", points(range(3))).result()
    changes = [
        PatchPayload((0,), PayloadPatch(set={"a": 1})),
        PatchPayload((1,), PayloadPatch(set={"a": 1})),
        PatchPayload((2,), PayloadPatch(set={"a": 1})),
    ]
    log = engine.collection("c").log
    append, calls = log.append, 0

    def cut_off(*given: object) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise VssError(Code.STORAGE, "cut off")
        return append(*given)  # type: ignore[arg-type]

    log.append = cut_off  # type: ignore[method-assign]
    once = Answer(key="k", digest=b"d")
    with pytest.raises(VssError, match="the 1 changes before this one are applied"):
        engine.write("c", changes, once).result()
    log.append = append  # type: ignore[method-assign]
    assert engine.write("c", changes, once).result() == 6, "three upserts and three patches, none of them twice"
    assert engine.write("c", changes, once).result() == 6
    with pytest.raises(VssError) as caught:
        engine.write("c", changes, Answer(key="k", digest=b"other")).result()
    assert caught.value.code is Code.CONFLICT
    found = engine.collection("c").view().retrieve([0, 1, 2])
    assert [one.payload for one in found] == [b'{"a":1}'] * 3


def test_what_is_committed_is_what_another_process_reads(engine: LocalEngine, data: DataDir) -> None:
    """The live part takes a commit from memory: what it makes of it has to be what the log says."""
    rng = np.random.default_rng(0)
    there: dict[object, Point] = {}
    engine.create("two", Schema(vectors={name: VectorSchema(dim=3, metric=Metric.DOT) for name in ("a", "b")}))
    for _ in range(30):
        some = [
            Point(
                id=int(number),
                vectors={name: rng.normal(size=3).astype(np.float32) for name in ("a", "b") if rng.random() < 0.7},
                payload=b'{"n":%d}' % number,
            )
            for number in rng.integers(0, 200, rng.integers(1, 60))
        ]
        engine.upsert("two", some).result()
        gone = rng.integers(0, 200, 5).tolist()
        engine.remove("two", gone).result()
        there = {id_: one for id_, one in (there | {one.id: one for one in some}).items() if id_ not in gone}
        engine.upsert("c", points(range(*sorted(rng.integers(0, 300, 2).tolist())), float(rng.random()))).result()
    reader = LocalEngine(data, INDEXERS, writable=False)
    for name in ("two", "c"):
        mine, read = (one.collection(name).view() for one in (engine, reader))
        assert mine.seq == read.seq
        ids = list(range(300))
        for left, right in zip(mine.retrieve(ids), read.retrieve(ids), strict=True):
            assert (left.id, left.payload, left.version) == (right.id, right.payload, right.version)
            assert {n: v.tolist() for n, v in left.vectors.items()} == {n: v.tolist() for n, v in right.vectors.items()}
        if name == "two":
            assert {one.id: (one.payload, set(one.vectors)) for one in mine.retrieve(ids)} == {
                id_: (one.payload, set(one.vectors)) for id_, one in there.items()
            }
    reader.close()


def test_the_last_of_one_id_counts_after_a_seal_and_after_a_fold_too(engine: LocalEngine) -> None:
    """milvus #52047: the winner was another one after compaction."""
    collection = engine.collection("c")
    order = np.random.default_rng(4).integers(0, 2_000, 12_000)
    wanted = {int(id_): place for place, id_ in enumerate(order)}

    def winners() -> dict[object, float]:
        return {one.id: float(one.vectors[""][0]) for one in collection.view().retrieve(list(wanted))}

    def write(places: range) -> None:
        many = [Point(id=int(order[at]), vectors={"": np.full(DIM, at, np.float32)}) for at in places]
        engine.upsert("c", many).result()

    write(range(5_000))
    seal(collection, engine, INDEXERS)
    write(range(5_000, 12_000))
    for step in (lambda: None, lambda: seal(collection, engine, INDEXERS), lambda: _folded(engine)):
        step()
        assert winners() == wanted
        assert collection.view().points == len(wanted)


def _folded(engine: LocalEngine) -> None:
    fold(engine.collection("c"), engine, INDEXERS, threads=1)


def test_where_sealing_fails_writes_are_refused_before_the_live_part_grows_without_bound(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vss.engines.sealing.LIVE_OPERATIONS", 100)
    monkeypatch.setattr("vss.engines.sealing.PAUSE_SECONDS", 0.0)
    collection = engine.collection("c")
    staging: Path = collection.staging
    if staging.exists():
        staging.rmdir()
    staging.write_text("in the way")  # no segment can be built here
    for start in range(0, 100, 50):
        engine.upsert("c", points(range(start, start + 50))).result()
    for change in (Upsert(points(range(500, 501))), Delete((1,))):
        with pytest.raises(VssError, match="100 operations wait to be sealed and sealing fails") as caught:
            engine.write("c", [change]).result()
        assert caught.value.code is Code.STORAGE
    assert collection.view().points == 100
    staging.unlink()
    engine.upsert("c", points(range(500, 501))).result()  # writing goes on by itself
    view = collection.view()
    assert (view.generation, view.points, len(view.live)) == (1, 101, 1)


def test_the_backlog_of_unindexed_points_is_bounded_and_deletes_go_through(data: DataDir) -> None:
    engine = LocalEngine(data, INDEXERS, writable=True, max_unindexed=5_500)
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}))
    rng = np.random.default_rng(1)

    def some(start: int, count: int) -> list[Point]:
        return [Point(id=start + row, vectors={"": rng.normal(size=DIM).astype(np.float32)}) for row in range(count)]

    engine.upsert("c", some(0, 5_500)).result()
    for change in (Upsert(some(9_000, 1)), PatchPayload((1,), PayloadPatch(clear=True))):
        with pytest.raises(VssError, match="5,500 points wait for an index, the limit is 5,500") as caught:
            engine.write("c", [change])
        assert caught.value.code is Code.OVERLOADED
    with pytest.raises(VssError, match="Deletes are still taken"):
        engine.write("c", [Delete((1,)), Upsert(some(9_000, 1))])
    wait([engine.remove("c", [7])])
    engine.upsert("c", some(9_000, 1)).result()
    assert engine.collection("c").view().points == 5_500
    engine.close()


def test_where_exact_search_is_the_index_nothing_waits_for_one(data: DataDir) -> None:
    engine = LocalEngine(data, INDEXERS, writable=True, max_unindexed=10)
    engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.MANHATTAN)}))
    for start in range(0, 60, 20):
        engine.upsert("c", points(range(start, start + 20))).result()
    assert engine.collection("c").view().points == 60
    engine.close()
