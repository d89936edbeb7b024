"""`vss generations`, `promote`, `gc` and `purge`, beside a running server and alone; generations over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np

from tests.api.serve_process import ServeProcess, wait_until
from tests.api.server_process import ServerProcess
from tests.cli.test_cli import vss

DIM = 8
SECRET = "a-secret-that-was-deleted"


def fill(client: httpx.Client) -> None:
    """Two imports' worth of points, one of which is deleted."""
    assert client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}}).is_success
    put(client, range(20), 1.0, SECRET)


def put(client: httpx.Client, ids: range, value: float, text: str = "") -> None:
    points = [{"id": one, "vector": [value] * DIM, "payload": {"t": f"{text} {one}."}} for one in ids]
    client.put("/collections/c/points?wait=true", json={"points": points}).raise_for_status()


def values(client: httpx.Client) -> dict[int, float]:
    answer = client.post("/collections/c/points/scroll", json={"limit": 100, "with_vector": True})
    return {one["id"]: one["vector"][0] for one in answer.json()["result"]["points"]}


def numbers(client: httpx.Client) -> list[int]:
    listed = client.get("/collections/c/generations").json()["result"]["generations"]
    return [one["generation"] for one in listed]


def command(*given: str) -> str:
    done = vss(*given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_beside_a_running_server(tmp_path: Path) -> None:
    server = ServeProcess(tmp_path / "data", 2, keep_generations=2)
    data = ("--data", str(server.data))
    try:
        with server.client() as client:
            fill(client)
            command("fold", "c", *data)
            put(client, range(10, 30), 2.0)
            client.post("/collections/c/points/delete?wait=true", json={"points": [0]}).raise_for_status()
            command("fold", "c", *data)
            put(client, range(40, 42), 3.0)
            before = values(client)
            assert len(before) == 31
            for process in (server.writer, server.readers[0]):
                with server.client_of(process) as one:
                    known = numbers(one)
                    for number in (known[0], known[-1]):
                        done = one.post(f"/collections/c/generations/{number}/promote")
                        assert done.json()["result"] == {"promoted": number, "current": number}
                        assert done.headers["vss-generation"] == str(number)
                        assert values(one) == before
                        assert values(client) == before
            assert f"c: generation {known[0]} promoted" in command("promote", "c", str(known[0]), *data)
            assert client.get("/collections/c").headers["vss-generation"] == str(known[0])
            listed = command("generations", "c", *data)
            assert [line.split(":")[0] for line in listed.splitlines()] == [
                f"{one} (current)" if one == known[0] else str(one) for one in known
            ]
            assert "generations retired: " in command("gc", "c", "--keep", "1", *data)
            assert numbers(client) == known[:1]
            assert values(client) == before
            missing = client.post("/collections/c/generations/999/promote")
            assert missing.status_code == 404
            assert f"retained are {known[0]}" in missing.json()["status"]["error"]
            for bad in ("x", "-1", "9" * 40):
                assert client.get(f"/collections/c/generations/{bad}").status_code == 400
            assert SECRET.encode() in everything(server.data)
            put(client, range(10), 4.0)
            command("purge", "c", *data)
            assert SECRET.encode() + b" 0." not in everything(server.data)
            assert np.full(DIM, 1.0, "<f4").tobytes() not in everything(server.data)
            assert values(client) == before | dict.fromkeys(range(10), 4.0)
    finally:
        assert server.stop() == 0


def everything(data: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())


def test_alone(tmp_path: Path) -> None:
    rows, data = tmp_path / "rows.jsonl", ("--data", str(tmp_path / "data"))
    for value in (1, 2):
        lines = [json.dumps({"id": one, "v": [value] * DIM, "t": f"{SECRET} {value}"}) for one in range(30)]
        rows.write_text("\n".join(lines))
        command("index", str(rows), "-c", "c", "--vector-field", "v", *data)
    assert [line.split(": ")[0] for line in command("generations", "c", *data).splitlines()] == ["1", "2 (current)"]
    described = command("generations", "c", "1", *data)
    assert "import " in described
    assert "30 points, 0 deleted" in described
    assert "8 numbers under Cosine" in described
    assert command("promote", "c", "1", *data) == "c: generation 1 promoted\n"
    assert "generation 1, 30 points" in command("doctor", *data)
    would = command("gc", "--all", "--dry-run", *data)
    assert "c: 0 would be removed, 0 bytes" in would
    kept = command("gc", "c", *data)
    assert "generations retired: none" in kept
    done = command("gc", "c", "--keep", "1", *data)
    assert "generations retired: 2" in done
    assert "c: artifact: " in done
    assert f"{SECRET} 2".encode() not in everything(tmp_path / "data")
    assert "is the only one" in command("purge", "c", *data)
    both = vss("gc", "c", "--all", *data)
    assert both.returncode == 1
    assert "wanted one of them" in both.stderr
    missing = vss("promote", "c", "9", *data)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    assert "got generation 9, retained are" in missing.stderr


def test_the_worker_collects(tmp_path: Path) -> None:
    server = ServeProcess(tmp_path / "data", 1, "--worker", keep_generations=1)
    try:
        with server.client() as client:
            fill(client)
            for value in (2.0, 3.0):
                put(client, range(20), value)
                command("fold", "c", "--data", str(server.data))
            wait_until(lambda: len(numbers(client)) == 1, "old generations are retired")
            wait_until(lambda: SECRET.encode() not in artifacts(server.data), "their files are collected")
            assert set(values(client).values()) == {3.0}
    finally:
        assert server.stop() == 0


def artifacts(data: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data.glob("collections/*/artifacts/*"))


def embedded(model: str) -> dict[str, object]:
    size = int(model.rpartition("-")[2])
    return {"size": size, "distance": "Cosine", "vss": {"model": model, "text_field": "text"}}


def test_a_generation_of_another_model(tmp_path: Path) -> None:
    """Rolled back to, texts are asked by the model that made it; where that is not served, they are refused."""
    data, ask = tmp_path / "data", {"query": {"text": "text number 7"}, "using": "a", "limit": 1}
    server = ServerProcess(data, models='["hashing-64", "hashing-32"]')
    try:
        with server.client() as client:
            schema = {"vectors": {"a": embedded("hashing-64"), "b": {"size": 2, "distance": "Dot"}}}
            client.put("/collections/c", json=schema).raise_for_status()
            texts = [f"text number {one}" for one in range(20)]
            points = [{"id": one, "vector": {"a": {"text": text}}} for one, text in enumerate(texts)]
            client.put("/collections/c/points?wait=true", json={"points": points}).raise_for_status()
            command("fold", "c", "--data", str(data))
            client.delete("/collections/c/vectors/a").raise_for_status()
            other = {"dense": {"size": 32, "distance": "Cosine", "vss": {"model": "hashing-32"}}}
            client.put("/collections/c/vectors/a", json=other).raise_for_status()
            answer = client.post("/collections/c/points/query", json=ask).json()
            assert answer["result"]["points"] == []
            client.post("/collections/c/generations/1/promote").raise_for_status()
            described = client.get("/collections/c/generations/1").json()["result"]["vectors"]["a"]
            assert (described["model"], described["dim"]) == ("hashing-64", 64)
            (hit,) = client.post("/collections/c/points/query", json=ask).json()["result"]["points"]
            assert (hit["id"], round(hit["score"], 4)) == (7, 1.0)
    finally:
        server.stop()
    server = ServerProcess(data, models='["hashing-32"]')
    try:
        with server.client() as client:
            client.post("/collections/c/generations/1/promote").raise_for_status()
            refused = client.post("/collections/c/points/query", json=ask)
            assert (refused.status_code, refused.json()["vss"]["code"]) == (404, "not_found")
            assert "hashing-64" in refused.text
    finally:
        server.stop()
