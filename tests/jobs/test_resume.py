"""A killed import goes on: no finished chunk is embedded again, no row is lost or doubled, and newer writes win."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from embedders.hashing import HashingEmbedder
from indexers.registry import INDEXERS
from tests.jobs.conftest import Run, Write
from tests.jobs.test_importer import DIM, clustered, names, reading, rows_of
from vss import canary
from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.jobs import chunks, journal
from vss.jobs.importer import Tools
from vss.jobs.progress import Silent
from vss.points import Point
from vss.storage.datadir import DataDir
from vss.types import Vectors

CHUNK = 64
PATIENCE = 60.0


class Stopped(KeyboardInterrupt):
    """Ends an import in the middle, as a kill does: what it has staged stays."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", CHUNK)


def killed(data: DataDir, *arguments: str, when: Callable[[Path], bool], hold: str = "") -> None:
    """Run `vss index` and kill it as soon as `when` says so of the collection's staging folder.

    hold: the first line of Python that the process runs, to make it slow at the right moment
    """
    command = [sys.executable, "-c", HELD.format(hold=hold), "index", *arguments, "--data", str(data.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until = time.monotonic() + PATIENCE
        try:
            while not any(when(folder) for folder in data.path.glob("collections/*/staging/import-*")):
                assert time.monotonic() < until, "the moment never came"
                if process.poll() is not None:
                    raise AssertionError(process.stdout.read().decode() if process.stdout else "")
        finally:
            process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


HELD = f"""
import sys
from vss.jobs import chunks
chunks.CHUNK_ROWS = {CHUNK}
{{hold}}
from api.cli.main import app
sys.argv[0] = "vss"
app()
"""

SLOW_EMBEDDING = """
import time
from embedders import hashing
fast = hashing.HashingEmbedder.embed
def slow(self, texts, role):
    time.sleep(0.05)
    return fast(self, texts, role)
hashing.HashingEmbedder.embed = slow
"""

NEVER_PUBLISHES = """
import time
from vss.jobs import living
living.adopt = lambda *given, **named: time.sleep(600)
"""

NEVER_INDEXES = """
import time
from indexers.flat import FlatBuilder
FlatBuilder.build = lambda *given, **named: time.sleep(600)
"""


def finished(folder: Path) -> int:
    """Chunks that the journal counts."""
    try:
        return (folder / "journal").read_bytes().count(b"\n") - 1
    except OSError:
        return -1


def texts(count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"id": n, "text": f"text {n} about {n % 7}", "n": n} for n in range(count)]
    rows[5] = {"id": 5}
    rows[count - 5] = {"id": "bad"}
    return rows


def content(data: DataDir, collection: str, ids: Any) -> list[tuple[Any, bytes, bytes]]:
    with reading(data, collection) as view:
        return [(point.id, point.payload, point.vectors[""].tobytes()) for point in view.retrieve(ids)]


class Counting(HashingEmbedder):
    """Counts the texts of an import that it embeds."""

    def __init__(self) -> None:
        super().__init__(64)
        self.texts: list[str] = []

    def embed(self, texts: Any, role: Any) -> Vectors:
        self.texts.extend(text for text in texts if text not in canary.TEXTS)
        return super().embed(texts, role)


@pytest.mark.parametrize(
    ("hold", "when"),
    [
        (SLOW_EMBEDDING, lambda folder: finished(folder) >= 0),
        (SLOW_EMBEDDING, lambda folder: finished(folder) >= 3),
        (NEVER_INDEXES, lambda folder: any(folder.glob("segment/index-*"))),
        (NEVER_PUBLISHES, lambda folder: any(folder.parent.parent.glob("artifacts/*")) and finished(folder) == 10),
    ],
    ids=["at once", "embedding", "indexing", "publishing"],
)
def test_a_killed_import_goes_on_and_makes_what_an_unkilled_one_makes(
    data: DataDir, write: Write, run: Run, tools: Tools, hold: str, when: Callable[[Path], bool]
) -> None:
    file = write(texts(10 * CHUNK))
    killed(data, str(file), "-c", "c", "--text-field", "text", "--model", "hashing-64", when=when, hold=hold)
    with LocalEngineOf(data) as engine:
        assert engine.collection("c").view().generation == 0
        (folder,) = engine.collection("c").staging.glob("import-*")
    last = journal._read(folder)
    assert last is not None
    done_before = last[1].read if last[1] else 0
    embedder = Counting()
    tools.embedders = lambda name: embedder
    done = run(file, text="text", model="hashing-64")
    assert (done.resumed, done.anew) == (done_before, None)
    assert (done.rows, done.rejected) == (10 * CHUNK - 2, 2)
    wanted = {row["text"] for row in texts(10 * CHUNK)[done_before:] if "text" in row}
    assert len(embedder.texts) == len(set(embedder.texts))
    assert set(embedder.texts) == wanted, "a finished chunk was embedded again, or a text is missing"
    assert done.dead_letters is not None
    assert [json.loads(line)["id"] for line in done.dead_letters.read_text().splitlines()] == [5, "bad"]
    run(file, text="text", model="hashing-64", collection="unkilled")
    everything = [*range(10 * CHUNK), "bad"]
    assert content(data, "c", everything) == content(data, "unkilled", everything)
    with reading(data) as one, reading(data, "unkilled") as other:
        assert one.manifest is not None
        assert other.manifest is not None
        first, second = one.manifest.segments[0], other.manifest.segments[0]
        assert (first.ids, first.payloads, first.columns) == (second.ids, second.payloads, second.columns)
        assert first.vectors == second.vectors
        assert one.points == other.points == 10 * CHUNK - 2
    assert not list(folder.parent.iterdir())


class LocalEngineOf(LocalEngine):
    """An engine that a `with` statement closes."""

    def __init__(self, data: DataDir, writable: bool = False) -> None:
        super().__init__(data, INDEXERS, writable=writable)

    def __enter__(self) -> LocalEngineOf:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class StopsAt(Silent):
    """Stops the import when so many rows are done."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def update(self, position: int, items: int) -> None:
        if items == self._rows:
            raise Stopped


@pytest.fixture
def stopped(run: Run, tools: Tools) -> Callable[..., None]:
    """Run an import and stop it in the chunk that ends at row `at`."""

    def stop(file: object, *, at: int, **options: Any) -> None:
        before = tools.reporter
        tools.reporter = StopsAt(at)
        with pytest.raises(Stopped):
            run(file, **options)
        tools.reporter = before

    return stop


def test_writes_since_the_first_start_win(data: DataDir, write: Write, run: Run, stopped: Callable[..., None]) -> None:
    file = write(rows_of(clustered(3 * CHUNK)))
    stopped(file, at=2 * CHUNK)
    mine = np.zeros(DIM, np.float32)
    mine[0] = 1
    with LocalEngineOf(data, writable=True) as engine:
        engine.upsert("c", [Point(id=n, vectors={"": mine}, payload=b'{"by":"writer"}') for n in (1, 150)]).result()
        engine.remove("c", [2]).result()
    done = run(file)
    assert done.resumed == CHUNK
    with reading(data) as view:
        assert view.points == 3 * CHUNK - 1
        assert [point.payload for point in view.retrieve([1, 2, 3, 150])] == [
            b'{"by":"writer"}',
            b'{"n":3}',
            b'{"by":"writer"}',
        ]


def test_what_changed_begins_anew_and_says_why(
    data: DataDir, write: Write, run: Run, stopped: Callable[..., None]
) -> None:
    file = write(rows_of(clustered(3 * CHUNK)))
    stopped(file, at=2 * CHUNK)
    os.utime(file, ns=(1, 1))
    done = run(file)
    assert (done.resumed, done.anew, done.rows) == (0, "files changed", 3 * CHUNK)
    stopped(file, at=2 * CHUNK)
    done = run(file, on_error="abort")
    assert (done.resumed, done.anew) == (0, "--on-error changed")
    with reading(data) as view:
        assert view.points == 3 * CHUNK
        assert view.manifest is not None
        assert not list((data.collection(view.manifest.collection) / "staging").iterdir())


@pytest.mark.parametrize("harm", ["torn", "short", "other boot", "other boot, synced", "old"])
def test_only_what_is_sure_is_taken(
    data: DataDir, write: Write, run: Run, stopped: Callable[..., None], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    file = write(rows_of(clustered(4 * CHUNK)))
    if harm == "other boot, synced":
        monkeypatch.setattr(journal, "SYNC_SECONDS", 0.0)
    stopped(file, at=3 * CHUNK)
    (folder,) = data.path.glob("collections/*/staging/import-*")
    kept = 2 * CHUNK
    if harm == "torn":
        raw = (folder / "journal").read_bytes()
        (folder / "journal").write_bytes(raw[:-7])
        kept = CHUNK
    elif harm == "short":
        os.truncate(folder / "segment" / "0.vectors.npy", 4_000)
        kept = 0
    elif harm == "old":
        os.utime(folder / "journal", (1, 1))
        kept = 0
    else:
        monkeypatch.setattr(journal, "_boot", lambda: "another")
        kept = kept if "synced" in harm else 0
    done = run(file)
    assert (done.resumed, done.rows) == (kept, 4 * CHUNK)
    assert (done.anew is not None) == (harm in ("short", "old"))
    with reading(data) as view:
        assert [point.payload for point in view.retrieve(range(4 * CHUNK))] == [
            b'{"n":%d}' % n for n in range(4 * CHUNK)
        ]


def test_a_living_import_is_left_alone(data: DataDir, write: Write, run: Run, tools: Tools) -> None:
    file = write(rows_of(clustered(3 * CHUNK)))

    class RunsAnother(Silent):
        """Runs the same import in the middle of this one."""

        def update(self, position: int, items: int) -> None:
            if items == 2 * CHUNK:
                tools.reporter = Silent()
                assert run(file).resumed == 0

    tools.reporter = RunsAnother()
    done = run(file)
    assert (done.resumed, done.rows, done.manifest.generation) == (0, 3 * CHUNK, 2)


def test_a_failure_after_going_on_removes_the_collection_that_the_killed_import_made(
    data: DataDir, write: Write, run: Run, stopped: Callable[..., None]
) -> None:
    file = write([*rows_of(clustered(3 * CHUNK)), {"id": "bad"}])
    stopped(file, at=2 * CHUNK)
    assert names(data) == ["c"]
    with pytest.raises(VssError, match="recall"):
        run(file, min_recall=1.1)
    assert names(data) == []


def test_another_spelling_of_the_same_place_is_the_same_import(
    data: DataDir, write: Write, run: Run, stopped: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(rows_of(clustered(3 * CHUNK)))
    monkeypatch.chdir(file.parent)
    (file.parent / "link").symlink_to(file.parent, target_is_directory=True)
    for spelling in (file.name, f"data/../{file.name}", f"link/{file.name}", file.as_uri()):
        stopped(file, at=2 * CHUNK, collection="c")
        assert run(spelling).resumed == CHUNK, spelling


def test_a_checkpoint_costs_a_line(data: DataDir, write: Write, stopped: Callable[..., None]) -> None:
    stopped(write(rows_of(clustered(4 * CHUNK))), at=3 * CHUNK)
    (folder,) = data.path.glob("collections/*/staging/import-*")
    lines = (folder / "journal").read_bytes().splitlines()
    assert [msgspec.json.decode(line)["read"] for line in lines[1:]] == [CHUNK, 2 * CHUNK]
