"""Servers of one to four processes over one data directory, killed and started again, while clients write.

    python -m tests.proofs.kills --kills 1000 --seconds 900 --out results.jsonl

Each round starts a server (one process, or `vss serve` with a worker and mostly a reader), lets owners (see `account`)
write through its processes, reads back what was acknowledged, folds from outside and promotes generations, and ends all
of it by SIGKILL 5 to 2,000 ms later. The next one has to have exactly what was acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from indexers.registry import INDEXERS
from tests.api.serve_process import NO_TLS, ServeProcess
from tests.api.server_process import ServerProcess
from tests.proofs.account import DIM, GRAPH, Owner, Points
from tests.proofs.forked import Forks
from tests.proofs.outcome import long_run
from vss.engines.local import LocalEngine
from vss.errors import Code, VssError
from vss.jobs.remote import JobWriter
from vss.storage.datadir import DataDir
from vss.storage.fold import fold

SHORTEST, LONGEST = 0.005, 2.0
"""Seconds from readiness to the kill."""

OWNERS = (("few-1", 200, 10), ("few-2", 200, 10), ("few-3", 50, 1), ("many", 3_000, 600))
"""Name, ids and points in an upsert at most. The requests of the last fill the live part, so that it is sealed."""

CLIENT: dict[str, Any] = {"trust_env": False, "timeout": 30, "verify": NO_TLS}

BEATEN = (Code.LOCKED, Code.UNAVAILABLE, Code.CONFLICT, Code.NOT_FOUND)
"""How a fold may fail when the server dies or another publication was first."""


class Client(threading.Thread):
    """Sends the requests of one owner until the server is gone."""

    def __init__(self, owner: Owner, url: str, stop: threading.Event, rng: random.Random) -> None:
        super().__init__()
        self.owner, self.url, self.stop, self.rng = owner, url, stop, rng
        self.acknowledged = 0
        self.wrong = ""

    def run(self) -> None:
        # Two connections: the system chooses a process for each, so that one often reads what another wrote.
        options = CLIENT | {"base_url": f"{self.url}/collections/c/"}
        with httpx.Client(**options) as writing, httpx.Client(**options) as reading, suppress(httpx.TransportError):
            while not self.stop.is_set():
                method, path, body = self.owner.begin().over_http()
                answer = writing.request(method, path, json=body)
                if answer.status_code != 200:
                    if answer.status_code not in (429, 503):
                        self.wrong = f"{method} {path}: {answer.status_code} {answer.text}"
                    return  # the process behind this one may be gone: whether it was written is not known
                self.owner.acknowledged()
                self.acknowledged += 1
                if self.rng.random() < 0.3:
                    self._read_back(reading)

    def _read_back(self, reading: httpx.Client) -> None:
        one = self.rng.choice(sorted(self.owner.there) or [0])
        answer = reading.post("points", json={"ids": [one], "with_vector": True})
        if answer.status_code == 200:
            found = {point["id"]: (point["vector"], point["payload"]) for point in answer.json()["result"]}
            wanted = {one: self.owner.there[one]} if one in self.owner.there else {}
            if found != wanted:
                self.wrong = f"read {found}, acknowledged was {wanted}"


class Operator(threading.Thread):
    """Folds from a process of its own, as `vss fold` does, and promotes generations, beside whatever server runs."""

    def __init__(self, data: Path, rng: random.Random, did: Counter[str]) -> None:
        super().__init__()
        self.data, self.rng, self.did = DataDir(data), rng, did
        self.stop, self.up = threading.Event(), threading.Event()
        self.url = ""
        self.wrong = ""

    def run(self) -> None:
        engine = LocalEngine(self.data, INDEXERS, writable=False)
        try:
            while not self.stop.wait(self.rng.uniform(0.05, 0.5)):
                self.up.wait()  # between two servers it ends what it is at, by itself
                if self.rng.random() < 0.7:
                    self._fold(engine)
                else:
                    self._promote()
        except Exception as error:
            self.wrong = repr(error)
        finally:
            engine.close()

    def _fold(self, engine: LocalEngine) -> None:
        try:
            fold(engine.collection("c"), JobWriter(self.data), INDEXERS, threads=1)
            self.did["folds"] += 1
        except VssError as error:
            if error.code not in BEATEN:
                raise
            self.did[f"folds: {error.code}"] += 1

    def _promote(self) -> None:
        with suppress(httpx.TransportError), httpx.Client(**CLIENT, base_url=self.url) as client:
            listed = client.get("/collections/c/generations")
            if listed.status_code == 200 and listed.json()["result"]["generations"]:
                chosen = self.rng.choice(listed.json()["result"]["generations"])["generation"]
                answer = client.post(f"/collections/c/generations/{chosen}/promote")
                self.did[f"promotions: {answer.status_code}"] += 1


def listening(server: ServeProcess) -> bool:
    """Whether the writer and the readers do. (`ServeProcess` itself asks each of them, which takes as long again.)"""
    assert server.process.poll() is None, "it ended"
    if server.said().count("listening on") < server.workers:
        return False
    with suppress(httpx.TransportError), server.client() as client:
        return client.get("/readyz").status_code == 200
    return False


def start(data: Path, round_: int, forks: Forks) -> tuple[str, ServerProcess | ServeProcess]:
    """What is killed in a round, and a server of that kind. Most are a process alone, and forked: those are ready in a
    tenth of the time that four take."""
    match round_ % 12:
        case 1:
            return "a reader and a worker too", ServeProcess(data, 2, "--worker", until=listening, threads=1)
        case 7:
            return "a worker too", ServeProcess(data, 1, "--worker", until=listening, threads=1)
    return "one process", ServerProcess(data, forks.start, threads=1)


def kill_all(server: ServerProcess | ServeProcess, rng: random.Random) -> None:
    """SIGKILL to every process of the server, in no particular order."""
    every = [one.pid for one in psutil.Process(server.process.pid).children(recursive=True)]
    every.append(server.process.pid)
    rng.shuffle(every)
    for pid in every:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.kill()


def everything(client: httpx.Client) -> Points:
    """All points, page by page. AssertionError when one comes twice, or is counted otherwise."""
    found: Points = {}
    offset: int | None = None
    while True:
        body = {"limit": 2_000, "with_vector": True} | ({} if offset is None else {"offset": offset})
        answer = client.post("/collections/c/points/scroll", json=body)
        assert answer.status_code == 200, answer.text
        page = answer.json()["result"]
        for point in page["points"]:
            assert point["id"] not in found, f"point {point['id']} comes twice"
            found[point["id"]] = (point["vector"], point["payload"])
        offset = page["next_page_offset"]
        if offset is None:
            break
    count = client.post("/collections/c/points/count", json={}).json()["result"]["count"]
    assert count == len(found), f"{count} are counted, {len(found)} there"
    return found


def check_search(client: httpx.Client, found: Points, rng: random.Random) -> None:
    """Exact search agrees with numpy over the same points."""
    vectors = np.array([vector for vector, _ in found.values()], np.float64).reshape(-1, DIM)
    query = [float(rng.randint(-99, 99)) for _ in range(DIM)]
    body = {"query": query, "limit": 10, "params": {"exact": True}}
    hits = client.post("/collections/c/points/query", json=body).json()["result"]["points"]
    wanted = np.sort(np.linalg.norm(vectors - query, axis=1))[:10]
    np.testing.assert_allclose([hit["score"] for hit in hits], wanted, rtol=1e-5)
    for hit in hits:
        np.testing.assert_allclose(np.linalg.norm(np.subtract(found[hit["id"]][0], query)), hit["score"], rtol=1e-5)


def run(folder: Path, kills: int, seed: int, done: Counter[str], over: Callable[[], bool] = lambda: False) -> None:
    """Kill and judge, so many times or until it is `over`. done: what was. AssertionError."""
    rng = random.Random(seed)
    data = folder / "data"
    owners = [
        Owner(name, 10_000 * place, ids, batch, random.Random(rng.random()))
        for place, (name, ids, batch) in enumerate(OWNERS)
    ]
    operator = Operator(data, random.Random(rng.random()), done)
    forks = Forks()
    try:
        while True:
            kind, server = start(data, done["kills"], forks)
            try:
                operator.url = server.url
                with server.client() as client:
                    if not operator.is_alive():
                        made = {"vectors": {"size": DIM, "distance": "Euclid"}, "vss": {"index": {"kind": GRAPH}}}
                        assert client.put("/collections/c", json=made).status_code == 200
                        operator.start()
                    found = everything(client)
                    for owner in owners:
                        owner.settle(found)
                    assert len(found) == sum(len(owner.there) for owner in owners), "phantoms of nobody"
                    check_search(client, found, rng)
                    done["generation"] = client.get("/collections/c").json()["vss"]["generation"]
                    done["points"] = len(found)
                assert "Traceback" not in server.said(), server.said()
                if done["kills"] == kills or over():
                    break
                stop = threading.Event()
                clients = [Client(owner, server.url, stop, random.Random(rng.random())) for owner in owners]
                for client_ in clients:
                    client_.start()
                operator.up.set()
                time.sleep(rng.uniform(SHORTEST, LONGEST))
                kill_all(server, rng)
                operator.up.clear()
                done["kills"] += 1
                done[f"kills of {kind}"] += 1
                stop.set()
                for client_ in clients:
                    client_.join(60)
                    assert not client_.wrong, client_.wrong
                    done["acknowledged"] += client_.acknowledged
                    done["under way"] += client_.owner.pending is not None
                assert not operator.wrong, operator.wrong
                assert "Traceback" not in server.said(), server.said()
            except BaseException as error:
                error.add_note(f"kill {done['kills']}, seed {seed}")
                raise
            finally:
                server.kill()
    finally:
        operator.stop.set()
        operator.up.set()
        if operator.is_alive():
            operator.join(60)
        forks.close()


def main() -> None:
    """The long form."""
    asked = long_run("kills", "kills", 1_000, __doc__)
    done = Counter[str]()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder, asked.told(done):
        run(Path(folder), asked.wanted, asked.seed, done, lambda: asked.over)


if __name__ == "__main__":
    main()
