"""`vss index --out` on one machine, `vss publish` on another: beside a running server and alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.api.server_process import ServerProcess
from tests.cli.test_cli import vss

ROWS = 60


def built(tmp_path: Path) -> Path:
    """A bundle of texts, made without a data directory."""
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": row, "text": f"text number {row}", "n": row}) for row in range(ROWS)]
    rows.write_text("\n".join([*lines, '{"id": "", "text": "no id"}']))
    elsewhere = tmp_path / "elsewhere"
    options = ("--text-field", "text", "--model", "hashing-64", "--out", str(tmp_path / "b"))
    done = vss("index", str(rows), "-c", "docs", *options, "--data", str(elsewhere))
    assert done.returncode == 0, done.stderr
    assert f"docs: a bundle at {tmp_path / 'b'}, 60 rows in" in done.stderr
    assert f"next: vss publish {tmp_path / 'b'}" in done.stderr
    assert [path.name for path in elsewhere.iterdir()] == ["dead-letters"]
    return tmp_path / "b"


def test_a_bundle_is_published_alone(tmp_path: Path) -> None:
    bundle, data = built(tmp_path), tmp_path / "data"
    done = vss("publish", str(bundle), "--data", str(data))
    assert done.returncode == 0, done.stderr
    assert "docs: generation 1, 60 points, best recall@10 1.000, " in done.stderr
    assert "check points: 60 points in" in done.stderr
    healthy = vss("doctor", "--data", str(data))
    assert "docs: generation 1, 60 points" in healthy.stdout


def test_a_running_server_answers_with_what_is_published(tmp_path: Path) -> None:
    bundle = built(tmp_path)
    server = ServerProcess(tmp_path / "data", models='["hashing-64"]')
    try:
        for name in ("docs", "other"):
            done = vss("publish", str(bundle), "--collection", name, "--data", str(server.data))
            assert done.returncode == 0, done.stderr
        with server.client() as client:
            point = {"id": 1000, "vector": np.eye(64)[0].tolist()}
            client.put("/collections/docs/points?wait=true", json={"points": [point]}).raise_for_status()
            body = {"query": {"text": "text number 7", "model": "hashing-64"}, "with_payload": True, "limit": 1}
            (hit,) = client.post("/collections/other/points/query", json=body).json()["result"]["points"]
            assert (hit["id"], hit["payload"]["n"]) == (7, 7)
            assert client.post("/collections/docs/points/count", json={}).json()["result"]["count"] == ROWS + 1
            done = vss("publish", str(bundle), "--mode", "replace", "--data", str(server.data))
            assert "docs: generation " in done.stderr
            assert ", 0 bytes fetched" in done.stderr
            assert client.post("/collections/docs/points/count", json={}).json()["result"]["count"] == ROWS
    finally:
        server.stop()


def test_what_cannot_be_published_is_one_clear_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    missing = vss("publish", str(tmp_path / "none"), "--data", str(data))
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    assert "there is no bundle at" in missing.stderr
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "v": [1, 2]}')
    out = ("--vector-field", "v", "--out", str(tmp_path))
    full = vss("index", str(rows), "-c", "c", *out, "--data", str(data))
    assert full.returncode == 1
    assert "is not an empty folder" in full.stderr
    both = vss("index", str(rows), "-c", "c", *out, "--mode", "replace", "--data", str(data))
    assert both.returncode == 2
    assert "--mode is said when the bundle of --out is published" in " ".join(both.stderr.split())
