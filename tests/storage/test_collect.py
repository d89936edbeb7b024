"""Collecting garbage: what is needed stays, whoever reads, writes, builds or is killed meanwhile; the rest goes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.storage.conftest import DIM
from tests.storage.test_generations import contents, point, sealed, write
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs.collect import collect, sweep, sweep_directory
from vss.jobs.journal import Begin, Checkpoint, take
from vss.jobs.scrub import scrub
from vss.points import id_key
from vss.protocols import Indexers
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage import collection as collections
from vss.storage.build import Block, SegmentBuilder
from vss.storage.catalog import Catalog
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir
from vss.storage.fold import fold
from vss.storage.imports import Mode, adopt
from vss.storage.manifest import Manifest, SegmentRecord, read_manifest
from vss.storage.staging import hold_log, staging_folder

ROUNDS = 6


@pytest.fixture
def worked(engine: LocalEngine, indexers: Indexers) -> Collection:
    """A collection of many generations; every file but those of the last is garbage."""
    for value in range(ROUNDS):
        write(engine, range(value, 20), float(value))
        sealed(engine, indexers)
    fold(engine.collection("c"), engine, indexers, threads=1)
    write(engine, range(18, 22), 50.0)
    return engine.collection("c")


def stored(collection: Collection) -> set[str]:
    return {path.name for path in (collection.folder / "artifacts").iterdir()}


def named(collection: Collection) -> set[str]:
    texts = (path.read_text() for path in collection.manifests.glob("*.json"))
    return {name for text in texts for name in re.findall(r'"sha256": "([0-9a-f]{64})"', text)}


def test_what_no_generation_names_goes(
    engine: LocalEngine, worked: Collection, data: DataDir, indexers: Indexers
) -> None:
    before, files = contents(engine), stored(worked)
    whole = sum(
        path.stat().st_size for path in worked.folder.rglob("*") if path.parent.name in ("artifacts", "manifests")
    )
    assert sweep(data, worked.folder.name, dry_run=True) == []
    retired, garbage = collect(data, worked.folder.name, engine, keep=2)
    assert len(retired.generations) == ROUNDS - 1
    assert retired.operations > 0
    left = sum(
        path.stat().st_size for path in worked.folder.rglob("*") if path.parent.name in ("artifacts", "manifests")
    )
    assert sum(one.bytes for one in garbage) == whole - left > 0
    assert len(list(worked.manifests.iterdir())) == 2
    assert stored(worked) == named(worked)
    assert list(worked.staging.iterdir()) == []
    assert contents(engine) == before
    again = LocalEngine(data, indexers, writable=False)
    assert contents(again) == before
    again.close()
    engine.promote("c", ROUNDS)
    assert contents(engine) == before
    engine.promote("c", ROUNDS + 1)
    collect(data, worked.folder.name, engine, keep=1)
    assert stored(worked) == named(worked) < files
    assert contents(engine) == before


def test_a_view_outlives_its_files(engine: LocalEngine, worked: Collection, data: DataDir, indexers: Indexers) -> None:
    view = worked.view()
    whole = {int(one.id): float(one.vectors[""][0]) for one in view.retrieve(range(100))}
    write(engine, range(25), 99.0)
    sealed(engine, indexers)
    fold(worked, engine, indexers, threads=1)
    assert collect(data, worked.folder.name, engine, keep=1)[1]
    assert {int(one.id): float(one.vectors[""][0]) for one in view.retrieve(range(100))} == whole
    assert set(contents(engine).values()) == {99.0}


def test_a_reader_that_meets_a_collected_file_looks_again(
    engine: LocalEngine, worked: Collection, data: DataDir, indexers: Indexers, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken: list[int] = []

    def slow(folder: Path, generation: int, sha256: str) -> Manifest:
        if len(overtaken) < 2:  # between the pointer and the manifest, and between the manifest and its files
            overtaken.append(generation)
            found = read_manifest(folder, generation, sha256) if len(overtaken) == 1 else None
            write(engine, range(25), 60.0 + len(overtaken))
            with monkeypatch.context() as patch:
                patch.setattr(collections, "read_manifest", read_manifest)
                sealed(engine, indexers)
                collect(data, worked.folder.name, engine, keep=1)
            return found or read_manifest(folder, generation, sha256)
        return read_manifest(folder, generation, sha256)

    reader = LocalEngine(data, indexers, writable=False)
    monkeypatch.setattr(collections, "read_manifest", slow)
    assert set(contents(reader).values()) == {62.0}
    assert len(overtaken) == 2
    reader.close()


READER = """
import sys
from pathlib import Path
from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.storage.datadir import DataDir

rounds = 0
print("ready", flush=True)
while not Path(sys.argv[2]).exists() or rounds < 5:
    engine = LocalEngine(DataDir(Path(sys.argv[1])), INDEXERS, writable=False)
    for _ in range(3):
        found = engine.collection("c").view().retrieve(range(30))
        values = {float(one.vectors[""][0]) for one in found}
        # Each write is one transaction over all points: a view that mixes two moments shows two values.
        assert len(found) == 30 and len(values) == 1, (len(found), values)
    rounds += 1
    engine.close()
print(rounds)
"""


def test_readers_in_other_processes_while_generations_come_and_go(
    engine: LocalEngine, data: DataDir, indexers: Indexers, tmp_path: Path
) -> None:
    write(engine, range(30), 1.0)
    sealed(engine, indexers)
    stop = tmp_path / "stop"
    command = [sys.executable, "-W", "error", "-c", READER, str(data.path), str(stop)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for value in range(2, 25):
            write(engine, range(30), float(value))
            sealed(engine, indexers)
            if value % 5 == 0:
                fold(engine.collection("c"), engine, indexers, threads=1)
            collect(data, engine.collection("c").folder.name, engine, keep=1)
        stop.touch()
        for reader in readers:
            said, errors = reader.communicate(timeout=60)
            assert (reader.returncode, errors) == (0, "")
            assert int(said) >= 5
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    assert stored(engine.collection("c")) == named(engine.collection("c"))


def built(collection: Collection, folder: Path, indexers: Indexers, value: float) -> SegmentRecord:
    with SegmentBuilder(collection.schema, folder / "segment") as builder:
        vectors = {"": (np.arange(5), np.full((5, DIM), value, np.float32))}
        keys = [id_key(number) for number in range(90, 95)]
        payloads = [b'{"v": %d}' % value] * 5
        builder.add(Block(keys=keys, payloads=payloads, versions=np.zeros(5, np.int64), vectors=vectors))
        return builder.finish(collection.artifacts, indexers, IndexSettings(kind="flat"), threads=1)


@pytest.mark.parametrize("known", [False, True], ids=["new files", "files that were garbage before"])
def test_what_a_running_job_has_stored_stays(
    engine: LocalEngine, worked: Collection, data: DataDir, indexers: Indexers, known: bool
) -> None:
    before = contents(engine)
    if known:
        with staging_folder(worked.staging, "fold") as folder:
            built(worked, folder, indexers, 7.0)
    with staging_folder(worked.staging, "fold") as folder:
        record = built(worked, folder, indexers, 7.0)
        collect(data, worked.folder.name, engine, keep=1)
        adopt(
            worked,
            record,
            started_seq=worked.log.last_seq(),
            mode=Mode.UPSERT,
            publisher=engine,
            indexers=indexers,
            models={},
            source="test",
        )
    collect(data, worked.folder.name, engine, keep=1)
    assert contents(engine) == before | dict.fromkeys(range(90, 95), 7.0)
    with staging_folder(worked.staging, "fold") as folder:
        built(worked, folder, indexers, 8.0)  # this one is never published
    assert collect(data, worked.folder.name, engine, keep=1)[1]
    assert stored(worked) == named(worked)


def test_an_import_keeps_the_deletions_it_has_to_heed(
    engine: LocalEngine, worked: Collection, data: DataDir, indexers: Indexers
) -> None:
    """bugs.md: a deleted id resurrects. What was deleted while an import ran is not in the log for ever."""
    with staging_folder(worked.staging, "fold") as folder:
        began = worked.log.last_seq()
        hold_log(folder, worked.folder.name, began)
        record = built(worked, folder, indexers, 7.0)
        engine.remove("c", [92]).result()
        sealed(engine, indexers)
        collect(data, worked.folder.name, engine, keep=1)
        options = {"mode": Mode.UPSERT, "publisher": engine, "indexers": indexers, "models": {}, "source": "test"}
        adopt(worked, record, started_seq=began, **options)  # type: ignore[arg-type]
        assert 92 not in contents(engine)
    with staging_folder(worked.staging, "fold") as folder:  # without the hold it is refused, not wrong
        began = worked.log.last_seq()
        record = built(worked, folder, indexers, 8.0)
        engine.remove("c", [91]).result()
        sealed(engine, indexers)
        collect(data, worked.folder.name, engine, keep=1)
        with pytest.raises(VssError, match="the log begins after"):
            adopt(worked, record, started_seq=began, **options)  # type: ignore[arg-type]


def test_nothing_goes_while_a_retained_manifest_cannot_be_read(
    engine: LocalEngine, worked: Collection, data: DataDir
) -> None:
    engine.retire(worked.folder.name, 2)
    (worked.manifests / f"{worked.view().generation - 1:06d}.json").write_text("{}")
    files = stored(worked)
    with pytest.raises(VssError) as caught:
        sweep(data, worked.folder.name)
    assert caught.value.code is Code.CORRUPT
    assert stored(worked) == files


def test_a_manifest_that_is_being_published_stays(engine: LocalEngine, worked: Collection, data: DataDir) -> None:
    engine.retire(worked.folder.name, 1)
    newest = worked.view().generation
    coming = [worked.manifests / f"{newest + 1:06d}.json", worked.manifests / f".{newest + 1:06d}.77.tmp"]
    past = [worked.manifests / f"{newest - 1:06d}.json", worked.manifests / f".{newest:06d}.77.tmp"]
    for path in (*coming, *past):
        path.write_text("{}")
    sweep(data, worked.folder.name)
    assert [path.exists() for path in (*coming, *past)] == [True, True, False, False]


KILLED = """
import os, signal, sys
from pathlib import Path
from vss.jobs import collect
from vss.jobs.remote import LocalWriter
from vss.storage import history
from vss.storage.datadir import DataDir

left = int(sys.argv[3])

def counted(step):
    def carried(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*given, **named)
    return carried

history.BATCH = 20
history.prune.__globals__["_retained"] = counted(history._retained)
collect.os.rename = counted(os.rename)
collect.shutil.rmtree = counted(collect.shutil.rmtree)
data = DataDir(Path(sys.argv[1]))
collect.collect(data, sys.argv[2], LocalWriter(data), keep=1)
"""


def test_killed_at_any_step_it_leaves_a_whole_collection(
    worked: Collection, engine: LocalEngine, data: DataDir, indexers: Indexers, tmp_path: Path
) -> None:
    before = contents(engine)
    engine.close()
    ends = set()
    for steps in (0, 3, 8, 20, 1_000):
        copy = DataDir(tmp_path / f"killed-{steps}")
        shutil.copytree(data.path, copy.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock"))
        command = [sys.executable, "-W", "error", "-c", KILLED, str(copy.path), worked.folder.name, str(steps)]
        ends.add(subprocess.run(command, check=False, timeout=60).returncode)
        again = LocalEngine(copy, indexers, writable=True)
        assert contents(again) == before
        collect(copy, worked.folder.name, again, keep=1)
        assert contents(again) == before
        assert stored(again.collection("c")) == named(again.collection("c"))
        assert not list(again.collection("c").staging.iterdir())
        again.close()
    assert ends == {-signal.SIGKILL, 0}


def test_what_belongs_to_no_collection_goes(engine: LocalEngine, worked: Collection, data: DataDir) -> None:
    before = contents(engine)
    deleted = data.collection(secrets.token_hex(8))
    shutil.copytree(worked.folder, deleted)
    making = data.collection(secrets.token_hex(8))
    making.mkdir()
    orphan = data.path / "staging" / "publish-dead"
    orphan.mkdir(parents=True)
    catalog = Catalog(data)
    try:
        # While another writes, a folder without a log may be that of a collection that it is making.
        found = sweep_directory(data, catalog, dry_run=True)
        assert {one.path for one in found} == {deleted, orphan}
        assert orphan.exists()
        sweep_directory(data, catalog)
        assert [path.exists() for path in (deleted, making, orphan)] == [False, True, False]
        assert contents(engine) == before
        engine.close()
        assert {one.path for one in sweep_directory(data, catalog)} == {making}
        assert not making.exists()
        assert set(catalog.entries()) == {"c"}
    finally:
        catalog.close()


@pytest.mark.parametrize("case", ["given up", "can go on", "written to", "of its user", "running"])
def test_the_empty_collection_of_a_killed_import(data: DataDir, indexers: Indexers, case: str) -> None:
    engine = LocalEngine(data, indexers, writable=True)
    entry = engine.create("c", Schema(vectors={"": VectorSchema(dim=DIM)}))
    collection = engine.collection("c")
    begin = Begin({"uri": "rows.jsonl"}, 0, case != "of its user", "")
    journal, _ = take(collection.staging / "import-1", begin)
    if case == "can go on":
        journal.write(Checkpoint(1, {}, 0, 0), synced=True)
    if case == "written to":
        engine.upsert("c", [point(1)]).result()
    engine.close()
    if case != "running":
        journal.leave()
    catalog = Catalog(data)
    try:
        sweep_directory(data, catalog)
        assert (set(catalog.entries()) == set()) == (case == "given up")
        assert data.collection(entry.id).exists() == (case != "given up")
    finally:
        catalog.close()
        if case == "running":
            journal.leave()


def test_folders_of_jobs(engine: LocalEngine, worked: Collection, data: DataDir) -> None:
    dead = worked.staging / "fold-dead"
    (dead / "segment").mkdir(parents=True)
    with staging_folder(worked.staging, "seal") as alive:
        (found,) = sweep(data, worked.folder.name)
        assert (found.path, dead.exists(), alive.exists()) == (dead, False, True)
    resumable, _ = take(worked.staging / "import-1", Begin({"uri": "a"}, 0, False, ""))
    resumable.write(Checkpoint(1, {}, 0, 0), synced=True)
    resumable.leave()
    old = worked.staging / "import-2"
    shutil.copytree(resumable.folder, old)
    os.utime(old / "journal", (1, 1))
    sweep(data, worked.folder.name)
    assert [resumable.folder.exists(), old.exists()] == [True, False]


def test_a_scrub_does_not_mourn_what_was_collected(engine: LocalEngine, worked: Collection, data: DataDir) -> None:
    read: list[int] = []

    def pace(count: int) -> None:
        if not read:
            collect(data, worked.folder.name, engine, keep=1)
        read.append(count)

    assert list(scrub(worked.folder, pace)) == []
    assert len(read) > len(stored(worked))
    assert worked.artifacts.damage.findings() == {}
