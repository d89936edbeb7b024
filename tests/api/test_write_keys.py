"""Idempotency keys: a write that is sent again is carried out once, also across `kill -9`, and answered as before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from tests.api.serve_process import ServeProcess
from tests.api.server_process import ServerProcess
from vss.storage import answers
from vss.storage.log import Kind, Log, Operation

KEY = {"Idempotency-Key": "order-17/a"}
PATH = "/collections/c/points"


def upsert(number: int, id_: int = 1) -> dict[str, Any]:
    return {"points": [{"id": id_, "vector": [1.0, 2.0], "payload": {"n": number}}]}


def create(client: httpx.Client, name: str = "c") -> None:
    client.put(f"/collections/{name}", json={"vectors": {"size": 2, "distance": "Euclid"}}).raise_for_status()


def payload(client: httpx.Client, id_: int = 1) -> Any:
    found = client.post(PATH, json={"ids": [id_]}).json()["result"]
    return found[0]["payload"] if found else None


def test_a_write_sent_again_is_answered_and_not_carried_out_even_after_a_kill(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    try:
        with server.client() as client:
            create(client)
            mixed = {"points": [*upsert(1)["points"], {"id": 2, "vector": [1.0]}], "vss": {"on_error": "skip"}}
            first = client.put(PATH + "?wait=true", json=mixed, headers=KEY).json()
            client.put(PATH, json=upsert(2)).raise_for_status()
            second = client.put(PATH + "?wait=true", json=mixed, headers=KEY).json()
            server.kill()
        server = ServerProcess(tmp_path / "data")
        with server.client() as client:
            third = client.put(PATH + "?wait=true", json=mixed, headers=KEY).json()
            for again in (second, third):
                assert again["result"] == first["result"]
                assert again["vss"] == first["vss"] | {"replayed": True}
            assert first["vss"]["items"][0]["id"] == 2
            assert payload(client) == {"n": 2}, "the later write stands"

            other = client.put(PATH, json=upsert(3), headers=KEY)
            assert other.status_code == 409
            assert other.json()["vss"]["field"] == "Idempotency-Key"
            assert client.post(PATH + "/delete", json={"points": [1]}, headers=KEY).status_code == 409
            assert payload(client) == {"n": 2}
            create(client, "d")
            assert client.put("/collections/d/points", json=upsert(1), headers=KEY).status_code == 200
            for bad in ("", "a b", "x" * 256):
                assert client.put(PATH, json=upsert(3), headers={"Idempotency-Key": bad}).status_code == 400
    finally:
        server.kill()


def test_every_kind_of_write_takes_a_key(server: ServerProcess, http: httpx.Client) -> None:
    http.delete("/collections/c")
    create(http)
    http.put(PATH, json={"points": [upsert(0, id_)["points"][0] for id_ in range(10)]}).raise_for_status()
    where = {"filter": {"must": [{"key": "n", "match": {"value": 0}}]}}
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/payload", {"payload": {"x": 1}, **where}),
        ("PUT", "/payload", {"payload": {"n": 0}, **where}),
        ("POST", "/payload/delete", {"keys": ["y"], **where}),
        ("PUT", "/vectors", {"points": [{"id": 3, "vector": [5.0, 5.0]}]}),
        ("POST", "/batch", {"operations": [{"delete": where}, {"upsert": upsert(7, 100)}]}),
        ("POST", "/delete", where),
        ("POST", "/payload/clear", {"points": [100]}),
    ]
    for number, (method, path, body) in enumerate(writes):
        key = {"Idempotency-Key": f"kind-{number}"}
        first = http.request(method, PATH + path, json=body, headers=key).json()
        again = http.request(method, PATH + path, json=body, headers=key).json()
        assert again["result"] == first["result"], path
        assert again["vss"].get("replayed"), path
    # Not carried out again either when points that it would choose have come meanwhile.
    http.put(PATH, json=upsert(0, 200)).raise_for_status()
    http.post(PATH + "/delete", json=where, headers={"Idempotency-Key": "kind-5"}).raise_for_status()
    assert payload(http, 200) == {"n": 0}


def test_at_once_it_is_carried_out_once(server: ServerProcess, http: httpx.Client) -> None:
    http.delete("/collections/c")
    create(http)
    with ThreadPoolExecutor(16) as pool:
        sent = list(pool.map(lambda _: http.put(PATH, json=upsert(1), headers={"Idempotency-Key": "k"}), range(16)))
    assert {one.status_code for one in sent} == {200}
    assert len({one.json()["result"]["operation_id"] for one in sent}) == 1
    assert http.put(PATH, json=upsert(2)).json()["result"]["operation_id"] == 2


def test_a_write_that_failed_is_not_remembered(server: ServerProcess, http: httpx.Client) -> None:
    http.delete("/collections/c")
    create(http)
    bad = {"points": [{"id": 1, "vector": [1.0]}]}
    assert http.put(PATH, json=bad, headers=KEY).status_code == 400
    assert http.put(PATH, json=upsert(1), headers=KEY).status_code == 200


def test_readers_hand_the_key_to_the_writer(tmp_path: Path) -> None:
    serving = ServeProcess(tmp_path / "data", 2)
    try:
        with serving.client_of(serving.readers[0]) as reader, serving.client_of(serving.writer) as writer:
            create(reader)
            first = reader.put(PATH, json=upsert(1), headers=KEY).json()
            again = writer.put(PATH, json=upsert(1), headers=KEY).json()
            assert again["result"] == first["result"]
            assert again["vss"]["replayed"]
    finally:
        serving.kill()


def test_what_is_remembered_is_bounded_by_count_and_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_ANSWERS", 10)
    log = Log(tmp_path / "log.db")
    for number in range(25):
        rows = [Operation(Kind.DELETE, b"\x01a"), Operation(Kind.DELETE, b"\x01b")]
        log.append(rows, [answers.Answer(key=f"k{number}", digest=b"d", seq=2, done=1)])
    assert [log.answered(f"k{number}") is not None for number in range(25)] == [False] * 15 + [True] * 10
    kept = log.answered("k24")
    assert kept is not None
    assert (kept.seq, kept.digest) == (50, b"d")
    monkeypatch.setattr(answers, "MAX_AGE_SECONDS", -1)
    assert log.answered("k24") is None
    log.append([], [answers.Answer(key="new", digest=b"d", done=1)])
    log.close()
    with apsw.Connection(str(tmp_path / "log.db")) as connection:
        assert [row[0] for row in connection.execute("SELECT key FROM answers")] == ["new"]
