"""The key: who needs one, in which header, and that nothing is read before it is checked."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator

import httpx
import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.api.server_process import ServerProcess

KEY = "a-long-key"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that asks for a key."""
    running = ServerProcess(tmp_path_factory.mktemp("guarded") / "data", api_key=KEY)
    yield running
    running.stop()


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/healthz"])
def test_health_needs_no_key(guarded: ServerProcess, path: str) -> None:
    with guarded.client() as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/collections"),
        ("PUT", "/collections/c"),
        ("POST", "/collections/c/points/query"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/internal/publish"),
        ("GET", "/no/such/path"),
        ("GET", "//livez"),
        ("GET", "/livez/"),
    ],
)
def test_everything_else_does(guarded: ServerProcess, method: str, path: str) -> None:
    bad = [{}, {"api-key": ""}, {"api-key": KEY + "x"}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"}]
    with guarded.client() as client:
        for headers in bad:
            answer = client.request(method, guarded.url + path, headers=headers)
            assert answer.status_code == 401
            assert KEY not in answer.text


@pytest.mark.parametrize(
    "headers", [{"api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"AUTHORIZATION": f"bearer {KEY}"}]
)
def test_both_headers_open_the_door(guarded: ServerProcess, headers: dict[str, str]) -> None:
    with guarded.client() as client:
        assert client.get("/collections", headers=headers).status_code == 200


def test_the_qdrant_client_with_a_key(guarded: ServerProcess) -> None:
    # It warns that a key goes over plain HTTP, which is true and meant for people.
    with pytest.warns(UserWarning, match="insecure"):
        known = QdrantClient(url=guarded.url, api_key=KEY, check_compatibility=False)
    assert known.get_collections().collections == []
    known.close()
    unknown = QdrantClient(url=guarded.url, check_compatibility=False)
    with pytest.raises(UnexpectedResponse, match="401"):
        unknown.get_collections()
    unknown.close()


def test_the_key_is_checked_before_the_body_is_read(guarded: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as raw:
        # The body never comes; whoever waits for it would wait for ever.
        raw.sendall(b"PUT /collections/c/points HTTP/1.1\r\nHost: vss\r\nContent-Length: 1000\r\n\r\n")
        assert raw.recv(12) == b"HTTP/1.1 401"


def test_the_unix_socket_is_open_to_its_owner_only(guarded: ServerProcess) -> None:
    mode = (guarded.data / "vss.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    with guarded.unix_client() as client:
        assert client.get("/collections").status_code == 200


def test_publishing_is_for_the_unix_socket(guarded: ServerProcess) -> None:
    with guarded.client(headers={"api-key": KEY}) as client:
        assert client.post("/internal/publish", json={}).status_code == 404
        forged = httpx.Request("POST", guarded.url + "/internal/publish", headers={"host": "vss", "api-key": KEY})
        assert client.send(forged).status_code == 404
    with guarded.unix_client() as client:
        assert client.post("/internal/publish", json={}).status_code == 400
