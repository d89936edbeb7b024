"""After a purge no byte of what was deleted or replaced lies in the data directory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.storage.conftest import DIM
from vss.changes import PatchPayload
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs.purge import purge
from vss.patches import PayloadPatch
from vss.points import Point
from vss.protocols import Indexers
from vss.schema import IndexSettings
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.storage.history import retained
from vss.storage.staging import hold_log, staging_folder

COUNT = 300
VECTORS = np.random.default_rng(8).normal(size=(COUNT, DIM)).astype(np.float32)
DELETED, REPLACED, PATCHED, LIVE = 3, 4, 5, 6
SECRETS = [b'secret-of-%d"' % row for row in (DELETED, REPLACED, PATCHED, LIVE)] + [b"id-of-the-deleted"]


def found(data: DataDir) -> set[bytes]:
    """Which secrets stand in any file, and which vectors of points that are gone."""
    wanted = SECRETS + [VECTORS[row].tobytes() for row in (DELETED, REPLACED, LIVE)]
    there = set()
    for path in data.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            there |= {secret for secret in wanted if secret in content}
    return there


def fill(engine: LocalEngine, indexers: Indexers, kind: str) -> Collection:
    """An indexed generation with the secrets, a sealed one after their end, and some more of both in the log."""
    engine.change_index("c", IndexSettings(kind=kind))
    points = [
        Point(id=row, vectors={"": VECTORS[row]}, payload=b'{"s": "secret-of-%d", "n": %d}' % (row, row))
        for row in range(COUNT)
    ]
    points.append(Point(id="id-of-the-deleted", vectors={"": np.ones(DIM, np.float32)}))
    engine.upsert("c", points).result()
    collection = engine.collection("c")
    fold(collection, engine, indexers, threads=1)
    engine.remove("c", [DELETED, "id-of-the-deleted"]).result()
    engine.upsert("c", [Point(id=REPLACED, vectors={"": np.zeros(DIM, np.float32)})]).result()
    seal(collection, engine, indexers)
    engine.write("c", [PatchPayload((PATCHED,), PayloadPatch(set={"s": "open"}))]).result()
    engine.remove("c", [LIVE]).result()
    return collection


@pytest.mark.parametrize("kind", ["flat", "faiss_hnsw", "hnswlib", "native"])
def test_nothing_of_what_is_gone_is_left(engine: LocalEngine, data: DataDir, indexers: Indexers, kind: str) -> None:
    collection = fill(engine, indexers, kind)
    before = [(one.id, one.payload, one.vectors[""].tolist()) for one in collection.view().retrieve(range(COUNT))]
    assert len(found(data)) == len(SECRETS) + 3
    purged = purge(data, collection, engine, indexers, threads=1)
    assert found(data) == set()
    view = collection.view()
    assert [(one.id, one.payload, one.vectors[""].tolist()) for one in view.retrieve(range(COUNT))] == before
    assert view.points == COUNT - 2 == len(before)
    assert [one.generation for one in retained(collection.log)] == [view.generation] == [purged.manifest.generation]
    assert purged.rewritten >= 1
    assert purged.bytes > 0
    assert purged.operations > COUNT
    largest = max(purged.manifest.segments, key=lambda one: one.rows)
    assert largest.vectors[""].index.kind == kind
    again = purge(data, collection, engine, indexers, threads=1)
    assert (again.rewritten, again.files, again.operations) == (0, 0, 0)


def test_writes_go_on_after_a_purge(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    collection = fill(engine, indexers, "flat")
    purge(data, collection, engine, indexers, threads=1)
    last = collection.log.last_seq()
    assert engine.upsert("c", [Point(id=LIVE, vectors={"": VECTORS[LIVE]})]).result() == last + 1
    engine.close()
    again = LocalEngine(data, indexers, writable=True)
    assert again.collection("c").view().points == COUNT - 1
    again.close()


def test_it_waits_for_no_import(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    collection = fill(engine, indexers, "flat")
    with staging_folder(collection.staging, "publish") as folder:
        hold_log(folder, collection.folder.name, 0)
        with pytest.raises(VssError, match="a job is at work") as caught:
            purge(data, collection, engine, indexers, threads=1)
    assert caught.value.code is Code.CONFLICT
    assert len(found(data)) == len(SECRETS) + 3
    purge(data, collection, engine, indexers, threads=1)
    assert found(data) == set()
