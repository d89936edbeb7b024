"""A full disk, a failing fsync, a read-only file system: nothing is acknowledged, searches go on, writing resumes.

Real processes, in which a library built here makes system calls fail (`faults.c`).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.clusters import clustered
from tests.api.serve_process import ServeProcess, wait_until
from tests.api.server_process import ServerProcess

DIM = 8
VECTORS = clustered(500, DIM, seed=6)
STATUS = {"ENOSPC": (507, "no_space"), "EIO": (503, "storage_failed"), "EROFS": (503, "storage_failed")}


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def fail(faults: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Called with what the disk does from now on, to every process started after this; "" makes it well."""
    control = tmp_path / "control"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("LD_PRELOAD", str(faults))
    monkeypatch.setenv("FAULTS_CONTROL", str(control))
    monkeypatch.setenv("FAULTS_UNDER", str(tmp_path / "data"))
    return control.write_text


def points(rows: range) -> dict[str, Any]:
    return {"points": [{"id": row, "vector": VECTORS[row].tolist(), "payload": {"n": row}} for row in rows]}


def searched(client: httpx.Client) -> list[int]:
    """The id of the nearest to point 7; a search that fails fails the test."""
    answer = client.post("/collections/c/points/query", json={"query": VECTORS[7].tolist(), "limit": 1})
    assert answer.status_code == 200, answer.text
    return [point["id"] for point in answer.json()["result"]["points"]]


def count(client: httpx.Client) -> int:
    return int(client.post("/collections/c/points/count", json={}).json()["result"]["count"])


def written(client: httpx.Client, rows: range) -> bool:
    return client.put("/collections/c/points", json=points(rows)).status_code == 200


@pytest.fixture
def server(fail: Callable[[str], object], tmp_path: Path) -> Iterator[ServeProcess]:
    """A writer and a reader, with 100 points."""
    fail("")
    running = ServeProcess(tmp_path / "data", 2)
    try:
        with running.client() as client:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
            assert written(client, range(100))
        yield running
    finally:
        running.kill()


@pytest.mark.parametrize("what", STATUS)
def test_nothing_is_acknowledged_searches_go_on_and_writing_resumes(
    server: ServeProcess, fail: Callable[[str], object], what: str, tmp_path: Path
) -> None:
    processes = [server.writer, *server.readers]
    with server.client_of(processes[0]) as writer, server.client_of(processes[1]) as reader:
        best = searched(writer)
        fail(what)
        status, code = STATUS[what]
        for row in range(100, 105):  # the first one fails, those after it find the collection read-only
            answer = writer.put("/collections/c/points", json=points(range(row, row + 1)))
            assert (answer.status_code, answer.json()["vss"]["code"]) == (status, code), answer.text
            assert answer.headers["Retry-After"] == "1"
            assert "searches go on" in answer.json()["vss"]["hint"]
        assert reader.put("/collections/c/points", json=points(range(100, 101))).status_code == status
        assert writer.post("/collections/c/points/delete", json={"points": [7]}).status_code == status
        for client in (writer, reader):
            assert searched(client) == best
            assert count(client) == 100
            described = client.get("/collections/c").json()["result"]
            assert described["status"] == "yellow"
            assert "it takes no writes" in described["optimizer_status"]["error"]
            ready = client.get("/readyz")
            assert ready.status_code == 200
            assert "collection c: it takes no writes" in "".join(ready.json()["warnings"])
            assert 'vss_collection_read_only{collection="c"} 1.0' in client.get("/metrics").text
        refused = writer.put("/collections/d", json={"vectors": {"size": DIM, "distance": "Dot"}})
        assert (refused.status_code, refused.json()["vss"]["code"]) == (status, code), refused.text

        fail("")
        wait_until(lambda: written(writer, range(100, 200)), "written again", 20)
        wait_until(lambda: writer.get("/collections/c").json()["result"]["status"] == "green", "green again", 20)
        wait_until(
            lambda: writer.put("/collections/d", json={"vectors": {"size": DIM, "distance": "Dot"}}).status_code == 200,
            "a collection made again",
            20,
        )
        assert written(reader, range(200, 210))
        assert count(reader) == 210
        assert [server.writer, *server.readers] == processes
        assert writer.get("/readyz").json()["warnings"] == []
    server.kill()
    again = ServerProcess(tmp_path / "data")
    try:
        with again.client() as client:
            assert count(client) == 210
            assert searched(client) == best
    finally:
        again.stop()


def test_what_failed_is_not_there_after_a_kill(
    server: ServeProcess, fail: Callable[[str], object], tmp_path: Path
) -> None:
    with server.client_of(server.writer) as writer:
        for turn in range(3):
            fail("EIO")
            # A commit whose fsync fails has put all of it into the write-ahead log already.
            assert writer.put("/collections/c/points", json=points(range(300, 400))).status_code == 503
            fail("")
            wait_until(lambda turn=turn: written(writer, range(100 + turn, 101 + turn)), "written again", 20)  # type: ignore[misc]
    server.kill()
    again = ServerProcess(tmp_path / "data")
    try:
        with again.client() as client:
            assert count(client) == 103
    finally:
        again.stop()


@pytest.mark.parametrize("what", STATUS)
def test_a_fold_that_fails_leaves_the_generation_before_and_nothing_else(
    server: ServeProcess, fail: Callable[[str], object], what: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "api.cli", "fold", "c", "--data", str(tmp_path / "data")]
    with server.client() as client:
        best = searched(client)
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        assert written(client, range(100, 200))
        before = client.get("/collections/c").json()["vss"]["generation"]
        fail(what)
        failed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr, failed.stderr
        assert client.get("/collections/c").json()["vss"]["generation"] == before
        assert searched(client) == best
        assert count(client) == 200
        fail("")
        (staging,) = (tmp_path / "data").glob("collections/*/staging")
        assert list(staging.iterdir()) == []
        assert not list((tmp_path / "data").glob("collections/*/*/.*.tmp"))
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        assert client.get("/collections/c").json()["vss"]["generation"] > before
        assert (searched(client), count(client)) == (best, 200)


def fill(path: Path) -> None:
    """Append to a file until the disk has not a byte left."""
    with open(path, "ab", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(4_096))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_that_starts_on_a_full_disk_answers_and_takes_writes_once_there_is_space(
    fail: Callable[[str], object], tmp_path: Path, processes: int
) -> None:
    fail("")
    server = ServeProcess(tmp_path / "data", processes)
    try:
        with server.client() as client:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
            assert written(client, range(100))
            best = searched(client)
    finally:
        server.kill()
    fail("ENOSPC")
    server = ServeProcess(tmp_path / "data", processes)
    try:
        started = [server.writer, *server.readers]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client_of(one)) for one in started]
            for client in clients:
                assert (searched(client), count(client)) == (best, 100)
                (found,) = client.post("/collections/c/points", json={"ids": [7]}).json()["result"]
                assert found["payload"] == {"n": 7}
                for _ in range(2):
                    refused = client.put("/collections/c/points", json=points(range(100, 101)))
                    assert (refused.status_code, refused.json()["vss"]["code"]) == STATUS["ENOSPC"], refused.text
                    assert "searches go on" in refused.json()["vss"]["hint"]
                assert (searched(client), count(client)) == (best, 100)
            fail("")
            wait_until(lambda: written(clients[-1], range(100, 200)), "written again", 20)
            for client in clients:
                assert (searched(client), count(client)) == (best, 200)
                wait_until(lambda one=client: one.get("/readyz").json()["warnings"] == [], "ready", 20)  # type: ignore[misc]
        assert [server.writer, *server.readers] == started
    finally:
        server.kill()


def test_a_disk_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        server = ServeProcess(disk / "data", 2)
        try:
            with server.client() as client:
                client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
                assert written(client, range(100))
                best, acknowledged = searched(client), 100
                filler = "x" * 40_000
                status = 200
                for turn in range(90):
                    body = points(range(100 + turn * 4, 104 + turn * 4))
                    for point in body["points"]:
                        point["payload"]["filler"] = filler
                        point["id"] += 1_000
                    status = client.put("/collections/c/points", json=body).status_code
                    if status != 200:
                        break
                    acknowledged += 4
                assert status == 507
                fill(disk / "rest")
                processes = [server.writer, *server.readers]
                for process in processes:
                    with server.client_of(process) as one:
                        assert (searched(one), count(one)) == (best, acknowledged)
                        assert one.get("/metrics").status_code == 200
                        refused = one.put("/collections/c/points", json=points(range(1)))
                        assert refused.status_code == 507, refused.text + server.said()
                server.kill()
                shutil.rmtree(disk / "data" / "run")
                fill(disk / "rest")
            server = ServeProcess(disk / "data", 2)
            processes = [server.writer, *server.readers]
            for process in processes:
                with server.client_of(process) as one:
                    assert (searched(one), count(one)) == (best, acknowledged)
                    assert one.put("/collections/c/points", json=points(range(1))).status_code == 507
            with server.client() as client:
                (disk / "rest").unlink()
                subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                wait_until(lambda: written(client, range(100, 110)), "written again", 20)
                assert count(client) == acknowledged + 10
                assert [server.writer, *server.readers] == processes
        finally:
            server.kill()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
