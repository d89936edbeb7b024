"""Payloads and vectors that change under a filter, before and after a fold, compared with a dict that does the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.clusters import clustered, nearest
from tests.api.server_process import ServerProcess

COUNT, DIM = 300, 8
VECTORS = clustered(COUNT, DIM, seed=31)
C = "/collections/c"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own, because a fold is of the whole data."""
    running = ServerProcess(tmp_path / "data")
    yield running
    running.stop()


def fold(server: ServerProcess) -> None:
    """Fold the collection in another process."""
    command = [sys.executable, "-m", "api.cli", "fold", "c", "--data", str(server.data)]
    subprocess.run(command, check=True, timeout=120, capture_output=True, env=os.environ | {"VSS_THREADS": "2"})


def match(key: str, value: Any) -> dict[str, Any]:
    """A filter on one value."""
    return {"must": [{"key": key, "match": {"value": value}}]}


def post(http: httpx.Client, path: str, body: Any, method: str = "POST") -> Any:
    """The result."""
    answer = http.request(method, C + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


@pytest.mark.parametrize("folds", [(), (0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_patch_then_filter(server: ServerProcess, folds: tuple[int, ...]) -> None:
    """The same answers whether a fold came before the patches, between them, after them, or never."""
    payloads: dict[int, dict[str, Any]] = {row: {"n": row, "kind": "abc"[row % 3]} for row in range(COUNT)}
    lacks: set[int] = {row for row in range(COUNT) if row % 5 == 0}
    with server.client() as http:
        post(http, "", {"vectors": {name: {"size": DIM, "distance": "Dot"} for name in ("a", "b")}}, "PUT")
        points = [
            {
                "id": row,
                "payload": payloads[row],
                "vector": {"a": VECTORS[row].tolist()} | ({} if row in lacks else {"b": VECTORS[row].tolist()}),
            }
            for row in range(COUNT)
        ]
        post(http, "/points", {"points": points}, "PUT")
        if 0 in folds:
            fold(server)

        post(http, "/points/payload", {"payload": {"kind": "z"}, "filter": match("kind", "b")})
        post(http, "/points/payload", {"payload": {"kind": "b"}, "points": [0, 3]})
        post(http, "/points/payload", {"payload": {"n": -1}, "filter": match("n", 7)}, "PUT")
        if 1 in folds:
            fold(server)
        post(http, "/points/payload/delete", {"keys": ["n"], "filter": match("kind", "b")})
        post(http, "/points/delete", {"filter": match("kind", "z") | {"must_not": [{"has_id": [1, 4]}]}})
        post(http, "/points/payload/clear", {"points": [1]})
        post(http, "/points/vectors/delete", {"vector": ["b"], "filter": match("kind", "c")})
        post(http, "/points/vectors", {"points": [{"id": 5, "vector": {"b": VECTORS[5].tolist()}}]}, "PUT")
        if 2 in folds:
            fold(server)

        for row, payload in payloads.items():
            if payload["kind"] == "b":
                payload["kind"] = "z"
            if row in (0, 3):
                payload["kind"] = "b"
        payloads[7] = {"n": -1}
        for payload in payloads.values():
            if payload.get("kind") == "b":
                del payload["n"]
        payloads = {row: one for row, one in payloads.items() if one.get("kind") != "z" or row in (1, 4)}
        payloads[1] = {}
        lacks |= {row for row, payload in payloads.items() if payload.get("kind") == "c"}
        lacks.discard(5)

        page = post(http, "/points/scroll", {"limit": 1000})["points"]
        assert {point["id"]: point["payload"] for point in page} == payloads
        for key, value in (("kind", "a"), ("kind", "b"), ("kind", "c"), ("kind", "z"), ("n", -1), ("n", 7), ("n", 9)):
            rows = [row for row, payload in payloads.items() if payload.get(key) == value]
            assert post(http, "/points/count", {"filter": match(key, value)})["count"] == len(rows), (key, value)
            for name in ("a", "b"):
                expected = [
                    row
                    for row in nearest(VECTORS[2], VECTORS, "Dot")
                    if row in rows and (name == "a" or row not in lacks)
                ]
                body = {"query": VECTORS[2].tolist(), "using": name, "limit": 20, "filter": match(key, value)}
                found = [point["id"] for point in post(http, "/points/query", body)["points"]]
                assert found == expected[:20], (key, value, name)
        ordered = post(http, "/points/scroll", {"limit": 20, "order_by": {"key": "n", "direction": "desc"}})
        by_n = sorted((row for row, payload in payloads.items() if "n" in payload), key=lambda row: -payloads[row]["n"])
        assert [point["id"] for point in ordered["points"]] == by_n[:20]


def test_a_name_comes_and_goes_across_folds(server: ServerProcess) -> None:
    """A vector that was dropped does not come back with its name, folded or not; the others answer as before."""
    with server.client() as http:
        post(http, "", {"vectors": {name: {"size": DIM, "distance": "Dot"} for name in ("a", "b")}}, "PUT")
        points = [{"id": row, "vector": {name: VECTORS[row].tolist() for name in ("a", "b")}} for row in range(COUNT)]
        post(http, "/points", {"points": points[: COUNT // 2]}, "PUT")
        fold(server)
        post(http, "/points", {"points": points[COUNT // 2 :]}, "PUT")
        post(http, "/vectors/b", None, "DELETE")
        post(http, "/vectors/b", {"dense": {"size": 3, "distance": "Euclid"}}, "PUT")
        post(http, "/points/vectors", {"points": [{"id": 9, "vector": {"b": [1, 2, 3]}}]}, "PUT")
        for _ in range(2):
            near = post(http, "/points/query", {"query": [1, 2, 3], "using": "b", "limit": 5})["points"]
            assert [(point["id"], point["score"]) for point in near] == [(9, 0.0)]
            body = {"query": VECTORS[2].tolist(), "using": "a", "limit": 10}
            found = [point["id"] for point in post(http, "/points/query", body)["points"]]
            assert found == nearest(VECTORS[2], VECTORS, "Dot")[:10]
            fold(server)
