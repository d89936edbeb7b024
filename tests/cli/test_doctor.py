"""`vss doctor` as a user runs it: what is damaged is named, mended where it can be, and never deleted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.api.clusters import clustered
from tests.api.serve_process import wait_until
from tests.api.server_process import ServerProcess
from tests.cli.test_cli import vss

DIM = 8
VECTORS = clustered(400, DIM, seed=9)


def damage(path: Path, *, hide: bool = True) -> None:
    """Change one byte in the middle; `hide`: in place, as a disk does, so that size and mtime stay."""
    before = path.stat()
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 0x55]))
    if hide:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def part(data: Path, role: str) -> Path:
    """A file of the first segment of the current generation of the only collection."""
    (folder,) = (data / "collections").iterdir()
    manifest = max((folder / "manifests").glob("[0-9]*.json"))
    segment = msgspec.json.decode(manifest.read_bytes())["segments"][0]
    vectors = segment["vectors"][""]
    artifact: Any
    if role == "index":
        artifact = max(vectors["files"].values(), key=lambda one: one["bytes"])
    elif role == "column":
        artifact = segment["columns"][0]["arrays"]["values"]
    elif role == "vectors":
        artifact = vectors["vectors"]
    else:
        artifact = segment["payloads"]["bytes"]
    return folder / "artifacts" / str(artifact["sha256"])


def put(client: httpx.Client, rows: range) -> None:
    points = [{"id": row, "vector": VECTORS[row].tolist(), "payload": {"n": row}} for row in rows]
    assert client.put("/collections/c/points", json={"points": points}).status_code == 200


def asked(client: httpx.Client) -> Any:
    """A search and a filter."""
    query = {"query": VECTORS[5].tolist(), "limit": 10, "filter": {"must": [{"key": "n", "range": {"lt": 100}}]}}
    answer = client.post("/collections/c/points/query", json=query)
    return answer.json()["result"]["points"] if answer.status_code == 200 else answer.json()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folded collection of 300 points, then 100 in the live part."""
    folder = tmp_path / "data"
    server = ServerProcess(folder)
    with server.client() as client:
        index = {"index": {"kind": "faiss_hnsw"}}
        client.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Euclid"}, "vss": index})
        put(client, range(300))
        assert vss("fold", "c", "--data", str(folder)).returncode == 0
        put(client, range(300, 400))
    server.stop()
    return folder


@pytest.mark.parametrize("role", ["index", "column"])
def test_a_running_server_heeds_what_the_doctor_finds_and_serves_through_its_repair(data: Path, role: str) -> None:
    server = ServerProcess(data)
    try:
        with server.client() as client:
            truth = asked(client)
            damaged = part(data, role)
            damage(damaged)
            found = vss("doctor", "c", "--data", str(data))
            assert found.returncode == 1
            assert damaged.name[:12] in found.stdout
            wait_until(lambda: client.get("/collections/c").json()["result"]["status"] == "yellow", "heeded", 20)
            assert asked(client) == truth
            assert re.search(r'vss_collection_damaged_parts\{collection="c"\} [1-9]', client.get("/metrics").text)

            mended = vss("doctor", "c", "--repair", "--data", str(data))
            assert mended.returncode == 0, mended.stdout + mended.stderr
            assert "built again as generation" in mended.stdout
            wait_until(lambda: client.get("/collections/c").json()["result"]["status"] == "green", "green", 20)
            assert asked(client) == truth
            assert client.get("/collections/c").json()["result"]["points_count"] == 400
    finally:
        server.stop()


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("role", ["vectors", "payloads"])
def test_where_an_older_generation_and_the_log_have_it_nothing_is_lost(data: Path, role: str, running: bool) -> None:
    assert vss("fold", "c", "--data", str(data)).returncode == 0
    server = ServerProcess(data)
    with server.client() as client:
        client.put("/collections/other", json={"vectors": {"size": DIM, "distance": "Dot"}})
        truth = asked(client)
    server.stop()
    (folder,) = [one for one in (data / "collections").iterdir() if (one / "manifests").is_dir()]
    manifest = max((folder / "manifests").glob("[0-9]*.json"))
    segment = msgspec.json.decode(manifest.read_bytes())["segments"][0]
    of = segment["vectors"][""]["vectors"] if role == "vectors" else segment["payloads"]["bytes"]
    damaged = folder / "artifacts" / of["sha256"]
    damage(damaged, hide=False)
    bytes_then = damaged.read_bytes()

    server = ServerProcess(data)  # it starts in any case
    try:
        with server.client() as client:
            refused = asked(client)
            assert refused["vss"]["code"] == "corrupt"
            assert damaged.name[:12] in refused["status"]["error"]
            described = client.get("/collections/c").json()["result"]
            assert described["status"] == "red"
            assert damaged.name[:12] in described["optimizer_status"]["error"]
            assert client.get("/readyz").status_code == 200
            assert client.get("/collections/other").json()["result"]["status"] == "green"
            assert 'vss_collection_unreadable{collection="c"} 1.0' in client.get("/metrics").text
            if not running:
                server.stop()
            mended = vss("doctor", "c", "--repair", "--data", str(data))
            assert "is current again; the log has everything since" in mended.stdout, mended.stdout + mended.stderr
            if running:
                wait_until(lambda: asked(client) == truth, "served again", 20)
        if not running:
            server = ServerProcess(data)
            with server.client() as client:
                assert asked(client) == truth
                assert client.get("/collections/c").json()["result"]["points_count"] == 400
    finally:
        server.stop()
    assert damaged.read_bytes() == bytes_then


def test_what_only_the_damaged_file_had_is_said_and_kept(tmp_path: Path) -> None:
    rows, data = tmp_path / "rows.jsonl", tmp_path / "data"
    rows.write_text("".join(f'{{"id": {row}, "v": {VECTORS[row].tolist()}}}\n' for row in range(50)))
    assert vss("index", str(rows), "--collection", "c", "--vector-field", "v", "--data", str(data)).returncode == 0
    damaged = part(data, "vectors")
    damage(damaged)
    sick = vss("doctor", "--repair", "--data", str(data))
    assert sick.returncode == 1
    assert damaged.name[:12] in sick.stdout
    assert "no older generation can take their place" in sick.stdout
    assert damaged.exists()


def test_a_damaged_catalog_is_restored_from_its_copy(data: Path) -> None:
    catalog = data / "catalog.db"
    catalog.write_bytes(catalog.read_bytes()[:5_000])
    found = vss("doctor", "--data", str(data))
    assert found.returncode == 1
    assert "catalog.db is damaged" in found.stdout
    mended = vss("doctor", "--repair", "--data", str(data))
    assert mended.returncode == 0, mended.stdout + mended.stderr
    (aside,) = data.glob("catalog.db.damaged-*")
    assert aside.stat().st_size == 5_000
    server = ServerProcess(data)
    try:
        with server.client() as client:
            assert client.get("/collections/c").json()["result"]["points_count"] == 400
    finally:
        server.stop()
