"""`vss worker` as a process: beside a real server, alone, killed, failing, and told to stop."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import msgspec
import numpy as np
import psutil
import pytest

from indexers.registry import INDEXERS
from tests.api.clusters import clustered, scores
from tests.api.serve_process import ServeProcess
from tests.api.server_process import ServerProcess
from vss.cores import usable_cores
from vss.engines.local import LocalEngine
from vss.jobs.journal import Begin, Checkpoint, take
from vss.points import Point
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.datadir import DataDir
from vss.storage.fold import fold, seal
from vss.types import Metric

DIM = 8
COUNT = 23_000
BATCH = 1_000
SEALED = 6_000
SLOW = {"ef_construction": 400, "m": 48}
VECTORS = clustered(COUNT, DIM, seed=31)
QUERIES = clustered(3, DIM, seed=32)


PATIENCE_SECONDS = 300
"""A worker has the lowest priority: beside other tests on a slow machine a fold of seconds takes minutes."""


class WorkerProcess:
    """`vss worker` over a data directory."""

    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.log = data.parent / f"worker-{len(list(data.parent.iterdir()))}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "api.cli", "worker", "--data", str(data), *options],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                pass_fds=[int(environment["VSS_LIFELINE"])] if "VSS_LIFELINE" in environment else [],
            )

    def said(self) -> str:
        return self.log.read_text()

    def says(self, words: str) -> None:
        """Wait until it has logged the words."""
        until(lambda: words in self.said(), lambda: f"wanted {words!r} in:\n{self.said()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=10)


def until(
    condition: Callable[[], bool], problem: Callable[[], str] = lambda: "it did not happen", pause: float = 0.02
) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, problem()
        # Another process changes the state; there is nothing to wait on.
        select.select([], [], [], pause)


@contextmanager
def worker(data: Path, *options: str, **environment: str) -> Iterator[WorkerProcess]:
    started = WorkerProcess(data, *options, **environment)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def points(rows: range) -> list[Point]:
    return [Point(id=row, vectors={"": VECTORS[row]}, payload=b"{}") for row in rows]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A data directory whose collection "c" has points without an index, all that it has."""
    data = tmp_path / "data"
    fill(data, "c")
    return data


def fill(data: Path, name: str, **params: int) -> None:
    """A collection of `SEALED` points in a segment without an index, as the writer's seal makes them."""
    settings = IndexSettings(kind="faiss_hnsw", params=dict(params))
    engine = LocalEngine(DataDir(data), INDEXERS, writable=True)
    engine.create(name, Schema(vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=settings))
    engine.upsert(name, points(range(SEALED))).result()
    seal(engine.collection(name), engine, INDEXERS)
    engine.close()


def kinds(data: Path, name: str = "c") -> list[str]:
    """The kinds of index of a collection's segments."""
    with ExitStack() as stack:
        engine = LocalEngine(DataDir(data), INDEXERS, writable=False)
        stack.callback(engine.close)
        manifest = engine.collection(name).current()
        return [one.vectors[""].index.kind for one in manifest.segments] if manifest else []


def staged(data: Path) -> list[Path]:
    return list(data.glob("collections/*/staging/fold-*"))


def unindexed(client: httpx.Client) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith('vss_index_unindexed_vectors{collection="c"}'):
            return float(line.split()[-1])
    return -1


def check_answers(client: httpx.Client, there: int) -> None:
    for query in QUERIES:
        body = {"query": query.tolist(), "limit": 10, "params": {"exact": True}}
        answer = client.post("/collections/c/points/query", json=body).json()
        found = [point["score"] for point in answer["result"]["points"]]
        np.testing.assert_allclose(found, np.sort(scores(query, VECTORS[:there], "Euclid"))[:10], rtol=1e-4, atol=1e-4)


def test_beside_a_server_unindexed_points_are_folded_and_answers_stay_exact(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client, worker(server.data) as job:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
            for start in range(0, COUNT, BATCH):
                rows = range(start, start + BATCH)
                body = {"batch": {"ids": list(rows), "vectors": VECTORS[start : start + BATCH].tolist()}}
                assert client.put("/collections/c/points", json=body).status_code == 200
                check_answers(client, start + BATCH)

            def folded() -> bool:
                check_answers(client, COUNT)
                return "c: folded" in job.said() and 0 <= unindexed(client) <= COUNT - 20_000

            until(folded, job.said, pause=0.3)  # the worker has low priority: leave it some of the machine
            assert "libtorch" not in Path(f"/proc/{job.process.pid}/maps").read_text()
            assert os.getpriority(os.PRIO_PROCESS, job.process.pid) >= 10
            job.says("c: folded 2")  # twenty thousand and some
            assert client.post("/collections/c/points/count", json={}).json()["result"]["count"] == COUNT
            assert job.stop() == 0
    finally:
        server.stop()


def test_alone_it_folds_what_is_there_and_what_comes_later(sealed: Path) -> None:
    with worker(sealed, "--threads", "1") as job:
        until(lambda: kinds(sealed) == ["faiss_hnsw"], job.said)
        fill(sealed, "later")
        job.says("later: folded 6,000 rows")
        assert kinds(sealed, "later") == ["faiss_hnsw"]
        assert job.stop(signal.SIGINT) == 0
    assert "Traceback" not in job.said()


def test_killed_in_the_middle_of_a_fold_the_next_one_completes_it_and_cleans_up(tmp_path: Path) -> None:
    sealed = tmp_path / "data"
    fill(sealed, "c", **SLOW)
    with worker(sealed) as job:
        until(lambda: bool(staged(sealed)), job.said)
        job.process.kill()
        job.process.wait()
    assert staged(sealed)
    assert kinds(sealed) == ["coded"]
    kept = staged(sealed)[0].parent / "import-1"
    journal, _ = take(kept, Begin({"uri": "rows.jsonl"}, 0, False, ""))
    journal.write(Checkpoint(1, {}, 0, 0), synced=True)
    journal.leave()
    with worker(sealed) as job:
        until(lambda: kinds(sealed) == ["faiss_hnsw"], job.said)
        until(lambda: not staged(sealed))
        assert job.stop() == 0
    assert kept.is_dir()


def test_told_to_stop_in_the_middle_of_a_fold_it_ends_and_publishes_nothing(tmp_path: Path) -> None:
    sealed = tmp_path / "data"
    fill(sealed, "c", **SLOW)
    with worker(sealed) as job:
        until(lambda: bool(staged(sealed)), job.said)
        assert job.stop() == 0
    assert "of it was published" in job.said()
    assert kinds(sealed) == ["coded"]


def test_a_second_worker_waits_and_takes_over_when_the_first_dies(sealed: Path) -> None:
    with worker(sealed) as first:
        first.says("watching")
        with worker(sealed) as second:
            second.says(f"waiting: another process (pid {first.process.pid}) is the worker")
            first.process.kill()
            second.says("c: folded 6,000 rows")
            assert kinds(sealed) == ["faiss_hnsw"]
            assert second.stop() == 0


def test_what_a_server_starts_yields_to_it(tmp_path: Path) -> None:
    server = ServeProcess(tmp_path / "data", 2, "--worker", models="[]")
    try:
        until(lambda: "vss.worker: watching" in server.said(), server.said)
        found = {}
        for child in psutil.Process(server.process.pid).children():
            environment = child.environ()
            role = environment.get("VSS_ROLE", "worker")
            found[role] = (os.getpriority(os.PRIO_PROCESS, child.pid), int(environment["OPENBLAS_NUM_THREADS"]))
            group = Path(f"/proc/{child.pid}/autogroup")  # of its session: the kernel weighs these, where it has them
            if role == "worker" and group.exists():
                assert group.read_text().split()[-1] == "10"
        assert found == {"writer": (0, 1), "reader": (0, 1), "worker": (10, max(1, usable_cores() - 1))}
    finally:
        server.kill()


def test_a_waiting_worker_can_be_stopped(tmp_path: Path) -> None:
    with worker(tmp_path / "data") as first:
        first.says("watching")
        with worker(tmp_path / "data") as second:
            second.says("waiting")
            assert second.stop() == 0


def test_a_damaged_collection_is_told_and_the_others_are_folded(sealed: Path) -> None:
    fill(sealed, "z")
    folder = sealed / "collections" / collection_id(sealed, "c")
    (manifest,) = (folder / "manifests").glob("*.json")
    (segment,) = msgspec.json.decode(manifest.read_bytes())["segments"]
    victim = folder / "artifacts" / segment["vectors"][""]["vectors"]["sha256"]
    os.chmod(victim, 0o644)
    with open(victim, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with worker(sealed) as job:
        job.says("z: folded 6,000 rows")
        job.says("does not have the bytes that its name says")
        job.says("again in 4 s")
        assert kinds(sealed, "z") == ["faiss_hnsw"]
        assert job.stop() == 0


def collection_id(data: Path, name: str) -> str:
    engine = LocalEngine(DataDir(data), INDEXERS, writable=False)
    try:
        return engine.entry(name).id
    finally:
        engine.close()


def test_it_ends_with_the_process_that_holds_its_lifeline(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with worker(tmp_path / "data", VSS_LIFELINE=str(reading)) as job:
        os.close(reading)
        job.says("watching")
        os.close(writing)
        assert job.process.wait(timeout=10) == 0


def test_what_rots_behind_its_receipt_is_found_and_built_again(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    engine = LocalEngine(data, INDEXERS, writable=True)
    try:
        schema = Schema(
            vectors={"": VectorSchema(dim=DIM, metric=Metric.EUCLID)}, index=IndexSettings(kind="faiss_hnsw")
        )
        engine.create("c", schema)
        points = [Point(id=row, vectors={"": VECTORS[row]}, payload=b"{}") for row in range(300)]
        engine.upsert("c", points).result()
        manifest = fold(engine.collection("c"), engine, INDEXERS, threads=1)
    finally:
        engine.close()
    (index,) = manifest.segments[0].vectors[""].files.values()
    path = data.collection(manifest.collection) / "artifacts" / index.sha256
    before = path.stat()
    path.chmod(0o644)
    with open(path, "r+b") as file:  # in place, as a disk changes a byte
        file.seek(index.bytes // 2)
        byte = file.read(1)[0]
        file.seek(index.bytes // 2)
        file.write(bytes([byte ^ 0x40]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with worker(data.path) as running:
        running.says(index.sha256[:12])
        running.says(f"what was damaged is built again, generation {manifest.generation + 1}")
    reader = LocalEngine(data, INDEXERS, writable=False)
    try:
        collection = reader.collection("c")
        assert collection.view().points == 300
        assert collection.damage == ()
        assert collection.artifacts.path(index) == path  # the same bytes were built again
    finally:
        reader.close()
