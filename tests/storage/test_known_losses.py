"""What other systems lost, tried on this one: the rows of log, compaction and restart. docs/losses.md lists all.

Each test fails when the safeguard that its docstring names is taken away; the table says how that was tried.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.storage.conftest import DIM
from vss.changes import Delete, PatchPayload
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.filters import Filter, Match
from vss.jobs.collect import collect
from vss.patches import PayloadPatch
from vss.points import Point
from vss.protocols import Indexers
from vss.schema import IndexSettings
from vss.search.retrieve import search
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.manifest import Manifest

Contents = dict[Any, tuple[list[float], bytes, int]]


def points(ids: range, value: int) -> list[Point]:
    random = np.random.default_rng(value)
    drawn = random.normal(size=(len(ids), DIM)).astype(np.float32)
    return [Point(id=one, vectors={"": drawn[n]}, payload=b'{"v":%d}' % value) for n, one in enumerate(ids)]


def contents(engine: LocalEngine) -> Contents:
    """id -> vector, payload, version; the three ways of counting agree."""
    view = engine.collection("c").view()
    page, _ = view.scroll(None, None, 100_000)
    found = {}
    for part, row in page:
        one = part.point(row)
        found[one.id] = (one.vectors[""].tolist(), one.payload, one.version)
    assert len(page) == len(found) == view.points == view.count(Filter())
    return found


def reopened(engine: LocalEngine, indexers: Indexers) -> Contents:
    """What another process that opens the data directory says."""
    other = LocalEngine(engine.data, indexers, writable=False)
    try:
        return contents(other)
    finally:
        other.close()


@pytest.fixture
def graph(engine: LocalEngine) -> LocalEngine:
    """The collection, whose folds build graphs of few points too."""
    engine.change_index("c", IndexSettings(kind="faiss_hnsw"))
    return engine


STEPS = """
import os, shutil, signal, sys
from pathlib import Path
from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.jobs.collect import collect
from vss.storage import history
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.log import Log

def run(folder, left):
    steps, published = 0, []
    def counted(step):
        def carried(*given, **named):
            nonlocal steps
            if steps == left:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
            if step is publish:
                published.append(steps)
            return step(*given, **named)
        return carried
    publish = Log.publish
    for name in ("link", "rename", "replace", "fsync", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    history._retained = counted(history._retained)
    Log.publish = counted(publish)
    engine = LocalEngine(DataDir(folder), INDEXERS, writable=True)
    seal(engine.collection("c"), engine, INDEXERS)
    fold(engine.collection("c"), engine, INDEXERS, threads=1)
    collect(engine.data, engine.entry("c").id, engine, keep=1)
    return steps, published

# What a process says that is to be killed after so many steps: nothing, unless there are fewer.
def ended(left):
    folder = whole.with_name(f"killed-{left}")
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("*.lock"))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, repr(run(folder, left)).encode())
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print(left, code, flush=True)
    with open(reading) as said:
        return said.read()

whole = Path(sys.argv[1])
steps, published = eval(ended(1_000_000))
# A publication is four steps: the manifest is synced, gets its name, and two folders are synced.
near = {begun + after for begun in published for after in (0, 1, 4)}
for left in sorted({*range(1, steps, 25), *near}):
    ended(left)
"""


def test_killed_at_each_step_of_a_compaction(graph: LocalEngine, indexers: Indexers, tmp_path: Path) -> None:
    """qdrant #9146, #10272, #7400; milvus #43204: what a compaction took its rows from was dropped before the result
    was durable; a deleted id came back with its payload.

    Safeguards: a pointer that moves only after every file and the manifest are synced (`publish`), sources that stay
    until nothing names them (`sweep`), operations that stay until every retained generation covers them (`prune`).
    """
    for value in range(3):
        graph.upsert("c", points(range(value * 10, value * 10 + 20), value)).result()
        graph.remove("c", [value * 10, 3]).result()
        if value < 2:
            fold(graph.collection("c"), graph, indexers, threads=1)
    graph.write("c", [PatchPayload((5, 25), PayloadPatch(set={"patched": True}))]).result()
    before = contents(graph)
    graph.close()
    command = [sys.executable, "-c", STEPS, str(graph.data.path)]
    done = subprocess.run(command, check=False, timeout=300, capture_output=True, text=True)
    ends = dict(map(int, line.split()) for line in done.stdout.splitlines())
    assert sorted(set(ends.values())) == [-signal.SIGKILL, 0], done.stderr
    assert len(ends) > 10
    for steps in ends:
        again = LocalEngine(DataDir(graph.data.path.with_name(f"killed-{steps}")), indexers, writable=True)
        assert contents(again) == before, steps
        collect(again.data, again.entry("c").id, again, keep=1)
        fold(again.collection("c"), again, indexers, threads=1)
        assert contents(again) == before, steps
        again.close()


def test_a_torn_tail_of_the_log_is_no_loss_and_a_lost_head_is_told(
    engine: LocalEngine, indexers: Indexers, tmp_path: Path
) -> None:
    """qdrant #4034, #1735, #3090: an illegal WAL header after a power loss kept the server from starting, or lost rows.

    Safeguards: SQLite's frame checksums, for what was never acknowledged; the witness beside the log
    (`storage.proof.Witness`), for what was.
    """
    engine.upsert("c", points(range(5), 0)).result()
    engine.close()  # from here on the tables are in the file, and what follows is in the WAL only
    engine = LocalEngine(engine.data, indexers, writable=True)
    for value in range(1, 4):
        engine.upsert("c", points(range(value, value + 5), value)).result()
    before, log = contents(engine), engine.collection("c").log
    assert log.last_seq() == 20
    (wal,) = engine.data.path.glob("collections/*/log.db-wal")
    frames = wal.read_bytes()
    frame = frames[32 : 32 + 24 + 4096]
    assert len(frames) > 3 * len(frame)
    tails = {
        "garbage": frames + b"\xff" * 5_000,
        "half a frame": frames + frame[:2_000],
        "a frame of before": frames + frame,
        "zeros": frames + bytes(100_000),
    }
    heads = {"no header": bytes(32) + frames[32:], "all gone": b""}
    for name, raw in (tails | heads).items():
        folder = tmp_path / name
        shutil.copytree(engine.data.path, folder, ignore=shutil.ignore_patterns("*.lock", "log.db-*"))
        (copy,) = folder.glob("collections/*/log.db")
        copy.with_name("log.db-wal").write_bytes(raw)
        again = LocalEngine(DataDir(folder), indexers, writable=True)
        if name in heads:
            with pytest.raises(VssError, match="were acknowledged") as caught:
                again.collection("c").view()
            assert caught.value.code is Code.CORRUPT
        else:
            assert contents(again) == before, name
            assert again.upsert("c", points(range(1), 9)).result() == 21
        again.close()
    engine.close()


def test_a_seal_of_nothing_but_patches_keeps_them(engine: LocalEngine, indexers: Indexers) -> None:
    """qdrant #4620: a flush was skipped because no point was new, and what had changed was lost.

    Safeguard: `seal` writes patched points anew, and covers exactly what the view that it wrote contains.
    """
    engine.upsert("c", points(range(10), 1)).result()
    seal(engine.collection("c"), engine, indexers)
    engine.write("c", [PatchPayload((3,), PayloadPatch(set={"w": 2}))]).result()
    before = contents(engine)
    assert (json.loads(before[3][1]), before[3][2]) == ({"v": 1, "w": 2}, 11)
    seal(engine.collection("c"), engine, indexers)
    collect(engine.data, engine.entry("c").id, engine, keep=1)
    assert contents(engine) == reopened(engine, indexers) == before


class Meanwhile:
    """A publisher before whose first publication something else happens."""

    def __init__(self, engine: LocalEngine, happen: Callable[[], object]) -> None:
        self._engine = engine
        self._happen: Callable[[], object] | None = happen

    def publish(self, manifest: Manifest) -> None:
        happen, self._happen = self._happen, None
        if happen is not None:
            happen()
        self._engine.publish(manifest)


@pytest.mark.parametrize("sealed", [False, True], ids=["live", "sealed"])
def test_deleted_rows_stay_deleted_through_a_fold(graph: LocalEngine, indexers: Indexers, sealed: bool) -> None:
    """milvus #17625, #14862, #39131, #1385: deleted rows came back after a compaction; counts grew by a restart in one.

    Safeguards: a merge gives what died while it was built tombstones when it is published (`compact._replaced`); a
    seal gives every row that live operations replaced or removed one.
    """
    graph.upsert("c", points(range(60), 1)).result()
    seal(graph.collection("c"), graph, indexers)
    graph.remove("c", range(10)).result()
    graph.upsert("c", points(range(60, 80), 2)).result()
    fold(graph.collection("c"), graph, indexers, threads=1)
    assert contents(graph).keys() == set(range(10, 80))
    graph.upsert("c", points(range(80, 120), 3)).result()
    seal(graph.collection("c"), graph, indexers)

    def delete() -> None:
        graph.remove("c", range(10, 20)).result()
        graph.write("c", [Delete(Filter(must=(Match("v", (2,)),)))]).result()
        graph.upsert("c", points(range(20, 25), 4)).result()
        if sealed:
            seal(graph.collection("c"), graph, indexers)

    fold(graph.collection("c"), Meanwhile(graph, delete), indexers, threads=1)
    found = contents(graph)
    assert found.keys() == set(range(20, 60)) | set(range(80, 120))
    assert [json.loads(found[one][1])["v"] for one in range(20, 26)] == [4] * 5 + [1]
    assert reopened(graph, indexers) == found
    fold(graph.collection("c"), graph, indexers, threads=1)
    collect(graph.data, graph.entry("c").id, graph, keep=1)
    assert contents(graph) == reopened(graph, indexers) == found


def test_what_a_kill_leaves_behind_keeps_nothing_from_starting(graph: LocalEngine, indexers: Indexers) -> None:
    """weaviate #1698, #1635, #1703, #8908, #4038: the end of a commit log, a `.tmp` that was left, or a condensation
    that was killed made every start fail.

    Safeguards: nothing is read that no pointer names; receipts and notes that cannot be read are as none
    (`ArtifactStore._read_receipts`, `DamageList`); folders of jobs that ended are swept.
    """
    graph.upsert("c", points(range(30), 1)).result()
    fold(graph.collection("c"), graph, indexers, threads=1)
    graph.upsert("c", points(range(20, 40), 2)).result()
    before, folder = contents(graph), graph.collection("c").folder
    graph.close()
    for name in ("manifests/.000009.77.tmp", "verified.77.88.tmp", "artifacts/x.tmp", ".tmp", "log.db.tmp", "../.tmp"):
        (folder / name).write_bytes(b'{"half":')
    (folder / "manifests/000009.json").write_bytes(b'{"half":')
    for orphan in ("fold-0011223344556677", "seal-0011223344556677"):
        (folder / "staging" / orphan).mkdir(parents=True)
        (folder / "staging" / orphan / "0.vectors.npy").write_bytes(b"\x93NUMPY\x01")
    for cut in (b"", b'{"0a', b"[]", b"\xff\xfe"):
        for name in ("verified.json", "damaged.json"):
            (folder / name).write_bytes(cut)
        again = LocalEngine(graph.data, indexers, writable=True)
        assert contents(again) == before
        again.upsert("c", [Point(id=5, vectors={"": np.zeros(DIM, np.float32)})]).result()
        before = contents(again)
        fold(again.collection("c"), again, indexers, threads=1)
        assert contents(again) == before
        again.close()


def test_the_log_goes_no_further_than_what_retained_generations_prove(graph: LocalEngine, indexers: Indexers) -> None:
    """chroma #7090, mempalace #1710: an index could not be used after a restart past 1,000 items; its quarantine threw
    47,099 vectors away, for the log had been purged already. milvus #38284: what was not flushed was lost by a restart.

    Safeguards: `history.prune` keeps all that any retained generation does not cover; a damaged index is set aside
    alone, and its segment answers exactly from its vectors (`SegmentVectors`).
    """
    graph.upsert("c", points(range(1_500), 1)).result()
    first = fold(graph.collection("c"), graph, indexers, threads=1)
    graph.remove("c", range(100)).result()
    graph.upsert("c", points(range(1_500, 1_600), 2)).result()
    second = seal(graph.collection("c"), graph, indexers)
    graph.upsert("c", points(range(1_600, 1_650), 3)).result()
    before = contents(graph)
    graph.retire(graph.entry("c").id, 2)
    graph.promote("c", first.generation)
    assert contents(graph) == reopened(graph, indexers) == before
    graph.promote("c", second.generation)
    graph.retire(graph.entry("c").id, 1)
    assert contents(graph) == reopened(graph, indexers) == before

    (record,) = [one for one in second.segments if one.vectors[""].index.kind == "faiss_hnsw"]
    for artifact in record.vectors[""].files.values():
        path = graph.collection("c").folder / "artifacts" / artifact.sha256
        path.chmod(0o644)
        path.write_bytes(b"\0" * artifact.bytes)
    queries = np.stack([np.asarray(before[one][0], np.float32) for one in range(200, 220)])
    again = LocalEngine(graph.data, indexers, writable=False)
    assert contents(again) == before
    view = again.collection("c").view()
    assert len(again.collection("c").damage) == 1
    for one, found in enumerate(search(view, queries, using="", k=3), 200):
        assert view.parts[int(found.parts[0])].point(int(found.rows[0])).id == one
    again.close()
    fold(graph.collection("c"), graph, indexers, threads=1)
    assert contents(graph) == reopened(graph, indexers) == before
