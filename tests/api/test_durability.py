"""What was acknowledged survives `kill -9`, a stop in mid-flight, and belongs to one server at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from tests.api.clusters import clustered
from tests.api.server_process import ServerProcess

DIM = 8
KILLS = 4
WRITERS = 3
WRITES_BEFORE_KILL = 60
VECTORS = clustered(4_000, DIM, seed=11)


class Writer(threading.Thread):
    """Writes points of its own, one request after the other, until the server is gone; every fifth it deletes again.

    there:   id -> whether the last acknowledged request about it left it there
    pending: the id of a request that was not answered; it may have been carried out or not
    """

    def __init__(self, url: str, ids: Sequence[int], done: threading.Semaphore) -> None:
        super().__init__()
        self.url, self.ids, self.done = url, ids, done
        self.there: dict[int, bool] = {}
        self.pending: int | None = None

    def run(self) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=10) as client:
            for number, one in enumerate(self.ids):
                self.pending = one
                point = {"id": one, "vector": VECTORS[one].tolist(), "payload": {"row": one}}
                try:
                    answer = client.put("/collections/c/points", json={"points": [point]})
                    assert answer.status_code == 200, answer.text
                    self.there[one] = True
                    if number % 5 == 4:
                        answer = client.post("/collections/c/points/delete", json={"points": [one]})
                        assert answer.status_code == 200, answer.text
                        self.there[one] = False
                except httpx.TransportError:
                    return
                self.pending = None
                self.done.release()


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    there: dict[int, bool] = {}
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
        for ids in np.array_split(np.arange(len(VECTORS)), KILLS):
            done = threading.Semaphore(0)
            writers = [Writer(server.url, ids[number::WRITERS].tolist(), done) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            for _ in range(WRITES_BEFORE_KILL):
                assert done.acquire(timeout=30)
            server.kill()
            for writer in writers:
                writer.join(30)
                there |= writer.there
            pending = {writer.pending for writer in writers}

            server = ServerProcess(tmp_path / "data")
            with server.client() as client:
                page = client.post("/collections/c/points/scroll", json={"limit": 10_000, "with_vector": True}).json()
            found = {point["id"]: point for point in page["result"]["points"]}
            assert {one for one, kept in there.items() if kept} - pending == set(found) - pending
            for one, point in found.items():
                assert point["payload"] == {"row": one}
                assert point["vector"] == VECTORS[one].tolist()
            there |= {one: one in found for one in pending if one is not None}
        assert sum(there.values()) > KILLS * WRITES_BEFORE_KILL / 2
    finally:
        server.kill()


def test_killed_in_the_moment_of_the_acknowledgement(tmp_path: Path) -> None:
    # Large writes, so that one that is answered too early is still on its way to the disk when the kill comes.
    filler = "x" * 2_000
    count = 2_000
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client:
            client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
        for kill in range(1, KILLS + 1):
            rows = range((kill - 1) * count, kill * count)
            points = [{"id": row, "vector": VECTORS[row % 4_000].tolist(), "payload": {"x": filler}} for row in rows]
            with server.client() as client:
                answer = client.put("/collections/c/points", json={"points": points})
                server.kill()
            assert answer.json()["result"]["operation_id"] >= kill * count
            server = ServerProcess(tmp_path / "data")
            with server.client() as client:
                assert client.post("/collections/c/points/count", json={}).json()["result"]["count"] == kill * count
    finally:
        server.kill()


def test_a_write_is_found_by_the_next_search_after_a_restart(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    with server.client() as client:
        client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
        points = [{"id": row, "vector": VECTORS[row].tolist()} for row in range(300)]
        assert client.put("/collections/c/points", json={"points": points}).json()["result"]["operation_id"] == 300
    server.kill()
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client:
            for row in (0, 150, 299):
                query = {"query": VECTORS[row].tolist(), "limit": 1}
                hit = client.post("/collections/c/points/query", json=query).json()["result"]["points"][0]
                assert (hit["id"], hit["score"]) == (row, 0.0)
    finally:
        server.stop()


def test_sigterm_ends_in_time_with_exit_code_0_and_frees_the_data(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    with server.client() as client:
        client.get("/collections")
        assert (tmp_path / "data" / "vss.sock").exists()
        # The client's connection is still open: it must not hold the server.
        assert server.stop() == 0
    assert not (tmp_path / "data" / "vss.sock").exists()
    again = ServerProcess(tmp_path / "data")
    assert again.stop() == 0


def test_while_draining_it_is_not_ready_and_still_answers(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", drain_seconds=3)
    with server.client() as client:
        client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}})
        server.process.terminate()
        deadline = time.monotonic() + 2.5
        while client.get("/readyz").status_code != 503:
            assert time.monotonic() < deadline
        said = {"ready": False, "reason": "the server is stopping", "warnings": []}
        assert client.get("/readyz").json() == said
        point = {"id": 1, "vector": VECTORS[0].tolist()}
        assert client.put("/collections/c/points", json={"points": [point]}).status_code == 200
    assert server.process.wait(20) == 0
    server.log.close()


def test_a_second_server_on_the_same_data_refuses_and_the_first_goes_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    try:
        command = [sys.executable, "-m", "api.server"]
        environment = {"VSS_DATA": str(tmp_path / "data"), "VSS_PORT": "0", "VSS_MODELS": "[]", "PATH": ""}
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode != 0
        assert "is the writer of this data directory" in second.stderr
        with server.unix_client() as client:
            assert client.get("/collections").status_code == 200
    finally:
        server.stop()
