"""`vss serve --workers 3`: any process may be asked, and any of them may die."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.api.serve_process import ServeProcess, wait_until

VECTORS = {"vectors": {"size": 4, "distance": "Dot"}}
TEXTS = {"vectors": {"size": 256, "distance": "Cosine", "vss": {"model": "hashing", "text_field": "t"}}}
AT_ONCE = 2.0
"""Seconds in which the requests that wait for a dead writer must be answered; it takes longer to start a new one."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """A writer and two readers."""
    running = ServeProcess(tmp_path_factory.mktemp("processes") / "data", 3, api_key="secret", max_body_bytes=200_000)
    yield running
    running.kill()


@pytest.fixture
def each(server: ServeProcess) -> Iterator[list[httpx.Client]]:
    """A client of each process, the writer's first."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client_of(one)) for one in (server.writer, *server.readers)]
        for one in clients:
            one.headers["api-key"] = "secret"
        yield clients


def upsert(client: httpx.Client, name: str, id_: int, value: float = 1.0) -> httpx.Response:
    point = {"id": id_, "vector": [value, 0, 0, 0]}
    return client.put(f"/collections/{name}/points", json={"points": [point]})


def nearest(client: httpx.Client, name: str, query: Any = (1, 0, 0, 0), limit: int = 1) -> Any:
    answer = client.post(f"/collections/{name}/points/query", json={"query": query, "limit": limit})
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["result"]["points"]]


def test_a_write_through_any_process_is_read_through_any(each: list[httpx.Client]) -> None:
    chance = random.Random(5)
    for number in range(24):
        name, (one, other) = f"c{number % 4}", chance.sample(each, 2)
        assert one.put(f"/collections/{name}", json=VECTORS).status_code == 200
        with ThreadPoolExecutor(3) as pool:  # a new collection is opened by all at once
            assert list(pool.map(lambda client, name=name: nearest(client, name), each)) == [[], [], []]
        for step in (1, 2):
            assert upsert(one, name, number + step, value=step).status_code == 200
            assert nearest(other, name) == [number + step]
        alias = {"actions": [{"create_alias": {"collection_name": name, "alias_name": "named"}}]}
        assert one.post("/collections/aliases", json=alias).status_code == 200
        assert nearest(other, "named") == [number + 2]
        added = one.put(f"/collections/{name}/vectors/extra", json={"size": 2, "distance": "Dot"})
        if added.status_code == 200:
            schema = other.get(f"/collections/{name}").json()["result"]["config"]["params"]["vectors"]
            assert "extra" in schema
        gone = one.post(f"/collections/{name}/points/delete", json={"points": [number + 2]})
        assert gone.status_code == 200
        assert nearest(other, name) == [number + 1]
        assert one.delete(f"/collections/{name}").status_code == 200
        assert other.get(f"/collections/{name}").status_code == 404


def test_readers_do_not_keep_what_was_deleted(server: ServeProcess, each: list[httpx.Client]) -> None:
    def opened(number: int) -> list[int]:
        assert each[0].put("/collections/kept", json=VECTORS).status_code == 200
        assert [nearest(one, "kept") for one in each] == [[], [], []]
        assert each[0].delete("/collections/kept").status_code == 200
        return [one.num_fds() for one in server.readers]

    before = opened(0)
    for number in range(10):
        after = opened(number)
    # Each open collection would be four files.
    assert all(now <= then + 8 for then, now in zip(before, after, strict=True))


def test_a_text_query_runs_in_the_reader_with_the_writers_model(each: list[httpx.Client]) -> None:
    writer, reader, _ = each
    reader.put("/collections/texts", json=TEXTS)
    points = [{"id": one, "vector": {"text": text}, "payload": {"t": text}} for one, text in enumerate(["red", "blue"])]
    assert reader.put("/collections/texts/points", json={"points": points}).status_code == 200
    assert nearest(reader, "texts", {"text": "blue"}) == [1]
    body = {"query": {"text": "red"}, "limit": 2, "with_payload": True}
    said = [one.post("/collections/texts/points/query", json=body).json()["result"] for one in (writer, reader)]
    assert said[0] == said[1]
    asked = {"query": "blue", "limit": 2, "rerank": {"model": "late_interaction"}}
    answers = [one.post("/collections/texts/recommend", json=asked).json()["result"] for one in (writer, reader)]
    assert answers[0]["points"] == answers[1]["points"]
    assert answers[1]["versions"]["reranker"] == "late_interaction"
    late = reader.post("/collections/texts/points/query?timeout=0.000001", json=body)
    assert late.status_code == 504


def test_what_is_forwarded_comes_back_unchanged(server: ServeProcess, each: list[httpx.Client]) -> None:
    writer, reader, _ = each
    for path, body in (("/v1/embeddings", {"model": "hashing", "input": "a"}), ("/v1/embeddings", {"model": "none"})):
        said = [one.post(path, json=body, headers={"x-request-id": "mine"}) for one in (writer, reader)]
        assert said[0].content == said[1].content
        assert said[0].status_code == said[1].status_code
        assert {*said[0].headers} == {*said[1].headers}
        assert said[1].headers.get_list("x-request-id") == ["mine"]
    assert reader.get("/v1/models").content == writer.get("/v1/models").content
    assert reader.put("/collections/%C3%BC%20b", json=VECTORS).status_code == 200
    assert "ü b" in reader.get("/collections").text
    assert reader.delete("/collections/%C3%BC%20b?timeout=5").json()["result"] is True
    refused = reader.put("/collections/none/points?unknown=1", json={})
    assert (refused.status_code, "unknown" in refused.text) == (400, True)
    # What is checked before a request is carried out is checked in the reader.
    assert reader.put("/collections/a", content=b"x" * 200_001).status_code == 413
    assert reader.put("/collections/a", json=VECTORS, headers={"api-key": "wrong"}).status_code == 401
    assert reader.post("/internal/embed", content=b"").status_code == 404
    assert writer.post("/internal/embed", content=b"").status_code == 404


def test_metrics_are_those_of_all_processes(server: ServeProcess, each: list[httpx.Client]) -> None:
    def counted(client: httpx.Client, route: str) -> float:
        text = client.get("/metrics").text
        found = re.findall(rf'vss_http_requests_total{{[^}}]*route="{re.escape(route)}"[^}}]*}} (\S+)', text)
        return sum(map(float, found))

    each[0].put("/collections/m", json=VECTORS)
    routes = ("/collections/{collection}/points/query", "/collections/{collection}/points")
    before = [counted(each[0], route) for route in routes]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(headers={"api-key": "secret"})) for _ in range(6)]
        for number in range(90):
            upsert(clients[number % 6], "m", number)
            nearest(clients[-1 - number % 6], "m")
    for one in each:
        assert [counted(one, route) - then for route, then in zip(routes, before, strict=True)] == [90, 90]
    text = each[1].get("/metrics").text
    assert 'vss_index_vectors{collection="m"} 90.0' in text
    assert "vss_inflight_requests 1.0" in text
    for role, name in (("supervisor", "supervisor"), ("writer", "writer"), ("reader", "reader-2")):
        labels = f'{{process="{name}",role="{role}"}}'
        seconds = re.search(rf"vss_process_cpu_seconds_total{labels} (\S+)", text)
        resident = re.search(rf"vss_process_resident_bytes{labels} (\S+)", text)
        assert seconds, text
        assert float(seconds[1]) > 0
        assert resident, text
        assert float(resident[1]) > 10_000_000


def test_a_port_in_use_is_refused(server: ServeProcess, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (other.getsockname()[1], server.port):
            done = vss_serve("--data", str(tmp_path / "data"), "--port", str(port))
            assert done.returncode == 1
            assert re.fullmatch(r"vss: cannot listen at .*: Address already in use \(.*--port\)\n", done.stderr)


def test_data_of_another_server_is_refused_and_that_server_goes_on(server: ServeProcess) -> None:
    done = vss_serve("--data", str(server.data), "--port", "0", "--workers", "2")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"pid {server.writer.pid}) is the writer of this data directory" in line
    assert server.all_ready()


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    done = vss_serve("--data", str(tmp_path / "data"), "--port", "0", "--workers", "0")
    assert (done.returncode, "--workers" in done.stderr) == (2, True)
    done = vss_serve("--data", str(tmp_path / "data"), "--port", "0", VSS_RERANKERS="nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("vss: ")
    assert "nonsense" in done.stderr


def vss_serve(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api.cli", "serve", "--no-worker", *options]
    given = {"PATH": "", "VSS_MODELS": "hashing"} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


class Load(threading.Thread):
    """One client of one process that asks the next thing as soon as the last is answered, until told to stop."""

    def __init__(self, ask: Callable[[int], httpx.Response], first: int) -> None:
        super().__init__()
        self.ask, self.number = ask, first
        self.told = threading.Event()
        self.answered: list[int] = []
        self.refused: list[tuple[float, httpx.Response]] = []

    def run(self) -> None:
        while not self.told.is_set():
            began = time.monotonic()
            answer = self.ask(self.number)
            if answer.status_code == 200:
                self.answered.append(self.number)
            else:
                self.refused.append((time.monotonic() - began, answer))
            self.number += 1

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.told.set()
        self.join(30)


def test_the_writer_dies_under_load_and_comes_back(server: ServeProcess, each: list[httpx.Client]) -> None:
    _, one, other = each
    one.put("/collections/k", json=VECTORS)
    one.put("/collections/kt", json=TEXTS)
    upsert(one, "k", 10**9)
    queried = "/collections/k/points/query"
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client_of(server.readers[number % 2])) for number in range(4)]
        for client in clients:
            client.headers["api-key"] = "secret"
        vector = {"query": [1, 0, 0, 0], "limit": 1}
        writes = [
            stack.enter_context(Load(lambda number, client=client: upsert(client, "k", number), first))
            for first, client in ((0, clients[0]), (10**6, clients[1]))
        ]
        vectors = stack.enter_context(Load(lambda _: clients[2].post(queried, json=vector), 0))
        asked = {"query": {"text": "a"}, "limit": 1}
        texts = stack.enter_context(Load(lambda _: clients[3].post("/collections/kt/points/query", json=asked), 0))
        loads = (*writes, vectors, texts)
        for _ in range(2):
            before = [len(load.answered) for load in loads]
            wait_until(
                lambda before=before: all(len(x.answered) > n + 10 for x, n in zip(loads, before, strict=True)), "go"
            )
            died = server.writer
            died.kill()
            psutil.wait_procs([died], timeout=10)
            seen = len(vectors.answered)
            wait_until(lambda seen=seen: len(vectors.answered) > seen + 10, "vector queries go on without a writer")
            wait_until(lambda died=died: any(died.pid != new.pid for new in server.of_role("writer")), "a new writer")
        before = [len(load.answered) for load in loads]
        wait_until(lambda: all(len(x.answered) > n + 10 for x, n in zip(loads, before, strict=True)), "all go on")
    assert not vectors.refused
    for load in (*writes, texts):
        assert load.refused
        for seconds, answer in load.refused:
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"] == "1"
            assert "the writer process" in answer.text or "the process that holds the models" in answer.text
            assert seconds < AT_ONCE
    page = other.post("/collections/k/points/scroll", json={"limit": 10_000}).json()["result"]["points"]
    there = {point["id"] for point in page}
    assert {*writes[0].answered, *writes[1].answered} <= there


def test_a_reader_that_dies_is_started_again(server: ServeProcess) -> None:
    died, stays = server.readers
    died.kill()
    wait_until(lambda: len(server.readers) == 2 and died not in server.readers and server.all_ready(), "a new reader")
    assert stays in server.readers
    assert re.search(r"the reader-\d ended \(signal SIGKILL\)", server.said())


def test_children_end_when_the_supervisor_is_killed(server: ServeProcess) -> None:
    children = [server.writer, *server.readers]
    server.process.kill()
    server.process.wait()
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not (server.data / "vss.sock").exists()


def test_the_next_start_removes_what_a_killed_supervisor_left(server: ServeProcess) -> None:
    run = server.data / "run"
    (left,) = run.iterdir()
    alone = ServeProcess(server.data, 1)
    try:
        (made,) = run.iterdir()
        assert made != left
        with alone.client() as client:
            text = client.get("/metrics").text
        # Of all processes here too, though one alone counts requests.
        for role in ("supervisor", "writer"):
            assert re.search(rf'vss_process_cpu_seconds_total{{process="{role}",role="{role}"}} \S+', text), text
        assert 'vss_http_requests_total{method="GET",route="/readyz",status="200"}' in text
        assert alone.stop() == 0
        assert not list(run.iterdir())
    finally:
        alone.kill()
