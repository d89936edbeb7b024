"""Jobs beside a running server: the same commands, committed by the server over its Unix socket."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.api.server_process import ServerProcess
from vss.errors import Code, VssError
from vss.jobs.messages import error_of
from vss.jobs.remote import JobWriter, LocalWriter, SocketWriter
from vss.schema import IndexSettings, Schema, VectorSchema
from vss.storage.datadir import DataDir, WriterLock
from vss.types import Metric

SCHEMA = Schema(vectors={"": VectorSchema(dim=3)})


def vss(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "api.cli", *arguments], capture_output=True, text=True, check=False)


def test_a_server_serves_what_jobs_build_beside_it(tmp_path: Path) -> None:
    """index (new collection), index (more rows), a live write, fold: each answered by the server at once."""
    data = tmp_path / "data"
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("".join(json.dumps({"id": n, "text": f"apple number {n}"}) + "\n" for n in range(30)))
    second.write_text('{"id": 5, "text": "a pear instead"}\n{"id": "x"}\n')
    server = ServerProcess(data)
    try:
        options = ("--collection", "fruit", "--text-field", "text", "--data", str(data))
        made = vss("index", str(first), *options, "--model", "hashing", "--index", "faiss_hnsw")
        assert made.returncode == 0, made.stderr
        assert "fruit: generation 1, 30 rows" in made.stderr
        with server.client() as client:

            def best(text: str) -> object:
                body = {"query": {"text": text}, "limit": 1}
                answer = client.post("/collections/fruit/points/query", json=body)
                assert answer.status_code == 200, answer.text
                return answer.json()["result"]["points"][0]["id"]

            assert best("apple number 17") == 17
            added = vss("index", str(second), *options)
            assert added.returncode == 0, added.stderr
            assert "1 rows were refused" in added.stderr
            assert best("a pear instead") == 5
            body = {"points": [{"id": 99, "vector": {"text": "a quince"}, "payload": {"text": "a quince"}}]}
            assert client.put("/collections/fruit/points", json=body).status_code == 200
            folded = vss("fold", "fruit", "--data", str(data))
            assert folded.returncode == 0, folded.stderr
            assert "generation 4, 31 points in 1 segments" in folded.stderr
            assert best("a quince") == 99
            assert best("apple number 17") == 17
            said = vss("search", "fruit", "a quince", "-k", "1", "--data", str(data))
            assert "99" in said.stdout, said.stderr
            failed = vss("index", str(second), *options, "--model", "hashing-64")
            assert failed.returncode == 1
            assert "fingerprint" in failed.stderr
    finally:
        server.stop()


def test_a_collection_that_a_failed_job_made_is_removed_from_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": 1, "vector": [0, 0]}\n')
    server = ServerProcess(data)
    try:
        failed = vss("index", str(bad), "--collection", "c", "--vector-field", "vector", "--data", str(data))
        assert failed.returncode == 1
        assert "zero vector" in failed.stderr
        with server.client() as client:
            assert client.get("/collections").json()["result"]["collections"] == []
    finally:
        server.stop()


def test_the_server_makes_the_schema_that_the_job_asked_for(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    wanted = Schema(
        vectors={"a": VectorSchema(dim=3, metric=Metric.EUCLID), "b": VectorSchema(dim=4, metric=Metric.DOT)},
        index=IndexSettings(kind="faiss_hnsw", params={"m": 8}),
    )
    server = ServerProcess(data.path)
    try:
        writer = JobWriter(data)
        writer.create("a name", wanted)
        with server.client() as client:
            made = client.get("/collections/a name").json()["vss"]["schema"]
            assert made["vectors"]["a"]["dim"] == 3
            assert made["vectors"]["b"]["metric"] == "Dot"
            assert made["index"] == {"kind": "faiss_hnsw", "params": {"m": 8}}
        with pytest.raises(VssError, match="already exists") as error:
            writer.create("a name", wanted)
        assert error.value.code is Code.ALREADY_EXISTS
        writer.delete("a name")
        writer.delete("a name")
    finally:
        server.stop()


def test_without_a_server_the_job_commits_itself(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    JobWriter(data).create("c", SCHEMA)
    with pytest.raises(VssError, match="already exists"):
        LocalWriter(data).create("c", SCHEMA)


def test_a_writer_that_does_not_listen_is_named(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with WriterLock(data), pytest.raises(VssError, match="does not answer") as error:
        JobWriter(data, patience=0).create("c", SCHEMA)
    assert error.value.code is Code.LOCKED
    with pytest.raises(VssError, match="does not answer"):
        SocketWriter(data).delete("c")


def test_jobs_that_commit_at_one_time_wait_for_each_other(tmp_path: Path) -> None:
    """Without a server the lock is held for moments, and nobody listens: that is no reason to lose a build."""
    data = DataDir(tmp_path)
    asked = Event()

    class Asked(SocketWriter):
        def create(self, name: str, schema: Schema) -> None:
            asked.set()
            super().create(name, schema)

    writer = JobWriter(data)
    writer._remote = Asked(data)
    with ThreadPoolExecutor(1) as pool:
        with WriterLock(data):
            made = pool.submit(writer.create, "c", SCHEMA)
            assert asked.wait(60)
        made.result(60)
    with pytest.raises(VssError, match="already exists"):
        writer.create("c", SCHEMA)


def test_an_answer_that_is_no_error_of_ours_is_shown() -> None:
    body = b'{"status": {"error": "no (why)"}, "time": 0, "vss": {"code": "conflict", "field": null, "hint": null}}'
    known = error_of(409, body)
    assert (known.code, str(known)) == (Code.CONFLICT, "no (why)")
    for body in (b"<html>", b"{}", b'{"status": {"error": "x"}, "vss": {"code": "new"}}'):
        assert "the server answered 502" in str(error_of(502, body))
