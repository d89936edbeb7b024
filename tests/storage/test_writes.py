"""Writes: durable, grouped, all or nothing, read by every process at once."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import numpy as np
import pytest

from tests.storage.conftest import DIM
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Indexers
from vss.storage import fold as folding
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.log import Kind, Log, Operation, Pointer
from vss.storage.proof import row_sum


def point(number: int, value: float = 0.0, payload: bytes = b"{}") -> Point:
    return Point(id=number, vectors={"": np.full(DIM, value, np.float32)}, payload=payload)


def test_what_was_written_is_read_back(engine: LocalEngine) -> None:
    engine.upsert("c", [point(1, 2.5, b'{"a": 1}'), point(2)]).result()
    (found,) = engine.collection("c").view().retrieve([1])
    assert found.payload == b'{"a": 1}'
    assert found.vectors[""].tolist() == [2.5] * DIM
    assert found.version == 1


def test_the_last_of_one_id_counts(engine: LocalEngine) -> None:
    engine.upsert("c", [point(1, 1.0), point(1, 2.0)]).result()
    view = engine.collection("c").view()
    assert view.points == 1
    assert view.retrieve([1])[0].vectors[""][0] == 2.0


def test_an_integer_and_its_string_are_two_points(engine: LocalEngine) -> None:
    engine.upsert("c", [point(1), Point(id="1", vectors={"": np.ones(DIM, np.float32)})]).result()
    engine.remove("c", ["1"]).result()
    assert [one.id for one in engine.collection("c").view().retrieve([1, "1"])] == [1]


def test_another_process_reads_an_acknowledged_write(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    reader = LocalEngine(data, indexers, writable=False)
    assert reader.collection("c").view().points == 0
    engine.upsert("c", [point(7)]).result()
    assert reader.collection("c").view().points == 1
    engine.remove("c", [7]).result()
    assert reader.collection("c").view().points == 0
    engine.create("d", engine.entry("c").schema)
    assert [entry.name for entry in reader.entries()] == ["c", "d"]
    reader.close()


def test_a_held_view_does_not_change(engine: LocalEngine) -> None:
    engine.upsert("c", [point(number) for number in range(300)]).result()
    before = engine.collection("c").view()
    engine.remove("c", list(range(100))).result()
    engine.upsert("c", [point(number, 9.0) for number in range(100, 700)]).result()
    assert before.points == 300
    assert before.retrieve([150])[0].vectors[""][0] == 0.0
    assert engine.collection("c").view().points == 600


def test_a_held_view_finds_what_was_there(engine: LocalEngine) -> None:
    engine.upsert("c", [point(number) for number in range(5)]).result()
    before = engine.collection("c").view()
    engine.remove("c", [0]).result()
    engine.upsert("c", [point(1, 9.0), point(7)]).result()
    now = engine.collection("c").view()
    assert [one.id for one in before.retrieve([0, 1, 2, 7])] == [0, 1, 2]
    assert before.retrieve([1])[0].vectors[""][0] == 0.0
    assert [one.id for one in now.retrieve([0, 1, 2, 7])] == [1, 2, 7]
    assert now.retrieve([1])[0].vectors[""][0] == 9.0


def test_writers_in_flight_share_commits(engine: LocalEngine) -> None:
    log = engine.collection("c").log
    commits: list[int] = []
    append = log.append
    log.append = lambda *given: commits.append(len(given[0])) or append(*given)  # type: ignore[method-assign]
    with ThreadPoolExecutor(32) as pool:
        seqs = list(pool.map(lambda number: engine.upsert("c", [point(number)]).result(), range(640)))
    assert sorted(seqs) == list(range(1, 641))
    assert sum(commits) == 640
    assert len(commits) < 320


def test_a_cancelled_write_stops_nobody(engine: LocalEngine) -> None:
    log = engine.collection("c").log
    with log._write_lock:  # the commit thread waits here with the first one in hand
        first = engine.upsert("c", [point(1)])
        while not first.running():
            pass
        second = engine.upsert("c", [point(2)])
        third = engine.upsert("c", [point(3)])
        assert not first.cancel()
        assert second.cancel()
    assert first.result() == 1
    assert third.result() == 2
    assert [one.id for one in engine.collection("c").view().retrieve([1, 2, 3])] == [1, 3]


def test_a_failed_commit_acknowledges_nothing(engine: LocalEngine) -> None:
    engine.upsert("c", [point(1)]).result()
    log = engine.collection("c").log
    writer = log._committer._trusted()
    writer.execute("CREATE TEMP TRIGGER full BEFORE INSERT ON operations BEGIN SELECT RAISE(FAIL, 'full'); END")
    with pytest.raises(VssError, match="nothing of this request was applied") as caught:
        engine.upsert("c", [point(2), point(3)]).result()
    assert caught.value.code is Code.STORAGE
    writer.execute("DROP TRIGGER full")
    assert engine.collection("c").view().points == 1
    assert engine.upsert("c", [point(2)]).result() == 2


def test_sequence_numbers_are_never_used_twice(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.db")
    assert log.append([Operation(Kind.DELETE, b"\x01a")] * 3) == 3
    log._committer._trusted().execute("DELETE FROM operations")
    assert log.append([Operation(Kind.DELETE, b"\x01a")]) == 4
    log.close()


def test_every_commit_is_synced(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.db")
    assert log._committer._trusted().pragma("synchronous") == 2
    assert log._committer._trusted().pragma("journal_mode") == "wal"
    assert apsw.sqlite_lib_version() >= "3.51.3"
    log.close()


def test_one_writer_at_a_time(engine: LocalEngine, data: DataDir, indexers: Indexers) -> None:
    with pytest.raises(VssError, match="is the writer") as caught:
        LocalEngine(data, indexers, writable=True)
    assert caught.value.code is Code.LOCKED


def test_the_lock_of_a_killed_writer_is_free(data: DataDir) -> None:
    script = (
        "import sys, pathlib, vss.storage.datadir as d\n"
        "lock = d.WriterLock(d.DataDir(pathlib.Path(sys.argv[1]))); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(data.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(VssError, match=str(holder.pid)):
        WriterLock(data)
    holder.kill()
    holder.communicate()
    WriterLock(data).close()


def test_a_starting_server_waits_for_a_commit(data: DataDir, indexers: Indexers) -> None:
    held = WriterLock(data)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: LocalEngine(data, indexers, writable=True, lock_wait=30.0))
        assert not waiting.done()
        held.close()
        waiting.result().close()


def test_the_live_part_is_sealed_when_it_is_full(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vss.engines.sealing.LIVE_OPERATIONS", 100)
    for start in range(0, 350, 50):
        engine.upsert("c", [point(number, float(number)) for number in range(start, start + 50)]).result()
    until = time.monotonic() + 30
    while len(engine.collection("c").view().live) >= 50:  # it is sealed once it is half full, beside the writers
        assert time.monotonic() < until
        time.sleep(0.005)
    engine.close()
    collection = LocalEngine(engine.data, engine._indexers, writable=False).collection("c")
    view = collection.view()
    assert view.generation >= 3
    assert view.points == 350
    assert len(view.live) < 50
    assert [view.retrieve([number])[0].vectors[""][0] for number in (0, 199, 349)] == [0.0, 199.0, 349.0]
    assert folding.LIVE_OPERATIONS == 20_000


def test_deleting_waits_for_those_who_read_and_write(engine: LocalEngine) -> None:
    """Whoever comes later is told that the collection is gone, not that the disk failed."""
    collection = engine.collection("c")
    with ThreadPoolExecutor(1) as pool:
        with collection.log._read_lock:
            deleted = pool.submit(engine.delete, "c")
            while any(entry.name == "c" for entry in engine.entries()):
                pass
            assert not deleted.done()
        assert deleted.result()
    assert not collection.folder.exists()
    for late in (collection.view, collection.log.last_seq, lambda: collection.log.append([])):
        with pytest.raises(VssError, match="was deleted meanwhile") as caught:
            late()
        assert caught.value.code is Code.NOT_FOUND


def test_a_log_opens_and_commits_beside_another_process_that_commits(tmp_path: Path) -> None:
    mine, other = Log(tmp_path / "log.db"), Log(tmp_path / "log.db")
    other._committer._trusted().execute("BEGIN IMMEDIATE")
    Log(tmp_path / "log.db").close()  # a reader does not wait for writers
    with ThreadPoolExecutor(1) as pool:
        published = pool.submit(mine.publish, 0, 1, lambda: Pointer(1, "x", 0))
        # Whether it has come to wait by now or comes later: it may not fail.
        other._committer._trusted().execute(
            "INSERT INTO operations (kind, key, vectors, payload, sum) VALUES (2, x'0161', x'', x'', ?)",
            (row_sum(2, b"\x01a", b"", b""),),
        )
        other._committer._trusted().execute("COMMIT")
        published.result()
    assert mine.read(0, 0)[0].generation == 1
    mine.close()
    other.close()


def test_a_publication_does_not_let_another_commit_between_its_reading_and_its_writing(tmp_path: Path) -> None:
    mine, other = Log(tmp_path / "log.db"), Log(tmp_path / "log.db")
    other._committer._trusted().set_busy_timeout(0)

    def write() -> Pointer:
        with pytest.raises(VssError, match="locked"):
            other.append([Operation(Kind.DELETE, b"\x01a")])
        return Pointer(1, "x", 0)

    mine.publish(0, 1, write)
    assert other.append([Operation(Kind.DELETE, b"\x01a")]) == 1
    mine.close()
    other.close()


def test_a_deleted_collection_is_gone(engine: LocalEngine) -> None:
    folder = engine.collection("c").folder
    assert engine.delete("c")
    assert not engine.delete("c")
    assert not folder.exists()
    with pytest.raises(VssError, match="does not exist"):
        engine.collection("c")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 256, " a", "a\n", "%2e%2e/x", "a\0b"])
def test_names_never_become_paths(engine: LocalEngine, name: str) -> None:
    with pytest.raises(VssError, match="collection name"):
        engine.create(name, engine.entry("c").schema)
