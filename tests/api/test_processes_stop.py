"""Stopping `vss serve --workers N`: in order, in time, and without failing anybody."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.api.serve_process import ServeProcess, wait_until

TEXTS = {"vectors": {"size": 256, "distance": "Cosine", "vss": {"model": "hashing", "text_field": "t"}}}
CLIENTS = 9
STOP_SECONDS = 10.0


class Client(threading.Thread):
    """Writes, asks by vector or asks by text, one request after the other, until no new connection is taken."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__()
        self.url, self.number = url, number
        self.written: list[int] = []
        self.answered = 0
        self.failed: list[str] = []
        self.ended = ""

    def run(self) -> None:
        vector = [1.0, *[0.0] * 255]
        with httpx.Client(base_url=self.url, trust_env=False, timeout=httpx.Timeout(20, connect=4)) as client:
            while True:
                id_ = self.number + CLIENTS * self.answered
                try:
                    if self.number % 3 == 0:
                        point = {"id": id_, "vector": vector}
                        answer = client.put("/collections/c/points?wait=true", json={"points": [point]})
                    else:
                        query = vector if self.number % 3 == 1 else {"text": f"text {id_}"}
                        answer = client.post("/collections/c/points/query", json={"query": query, "limit": 3})
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    self.ended = repr(error)
                    return
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    return
                if answer.status_code == 200:
                    self.answered += 1
                    if self.number % 3 == 0:
                        self.written.append(id_)
                else:
                    self.failed.append(answer.text)


@pytest.fixture(params=[1, 3])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServeProcess]:
    """A writer, and two readers or none."""
    running = ServeProcess(tmp_path / "data", request.param)
    yield running
    running.kill()


def test_sigterm_fails_no_request_that_was_taken(server: ServeProcess) -> None:
    with server.client() as client:
        assert client.put("/collections/c", json=TEXTS).status_code == 200
    clients = [Client(server.url, number) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    wait_until(lambda: all(one.answered > 5 for one in clients), "every client is being answered")
    children = psutil.Process(server.process.pid).children()
    told = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    with server.client() as client:
        wait_until(lambda: client.get("/readyz").status_code == 503, "not ready while it still answers", seconds=0.9)
    before = [one.answered for one in clients]
    assert server.process.wait(20) == 0
    assert time.monotonic() - told < STOP_SECONDS
    for one in clients:
        one.join(30)
        assert not one.failed, one.failed
        assert one.ended
    assert [one.answered for one in clients] > before
    assert not any(one.is_running() for one in children)
    assert not (server.data / "vss.sock").exists()
    if server.workers > 1:
        return
    again = ServeProcess(server.data)
    try:
        with again.client() as client:
            page = client.post("/collections/c/points/scroll", json={"limit": 10_000}).json()["result"]["points"]
        assert {point["id"] for point in page} == {id_ for one in clients for id_ in one.written}
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(20) == 0
    finally:
        again.kill()


def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    server = ServeProcess(tmp_path / "data", 2, drain_seconds=8)
    try:
        children = psutil.Process(server.process.pid).children()
        with server.client() as client:
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/readyz").status_code == 503, "told")
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(4) == 128 + signal.SIGINT
        assert not any(one.is_running() for one in children)
    finally:
        server.kill()
