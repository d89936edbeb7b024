"""Imports from S3, and bundles in it: a real endpoint in a process of its own, spoken to as `vss index` does."""

from __future__ import annotations

import gzip
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexers.registry import INDEXERS
from tests.jobs.conftest import Run
from tests.jobs.test_importer import clustered, names, reading, rows_of
from vss.errors import Code, VssError
from vss.jobs.bundles.build import Bundle
from vss.jobs.bundles.publish import Adopted, Publication, run_publish
from vss.jobs.gate import Fields
from vss.jobs.importer import Tools, run_import
from vss.jobs.progress import Silent
from vss.jobs.remote import LocalWriter
from vss.jobs.request import Import
from vss.jobs.sources.systems import shown
from vss.storage.datadir import DataDir

SECRET = "a-secret-that-no-message-shows"
ROWS = 60
VECTORS = clustered(ROWS)
PATIENCE = 60.0


def lines(start: int, stop: int) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows_of(VECTORS)[start:stop]).encode()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an S3 server with the bucket `data`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    httpx.get(f"{url}/moto-api/").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < until
                    assert process.poll() is None
            fill(url)
            yield url
        finally:
            process.kill()


def fill(url: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="id", aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    client.create_bucket(Bucket="data")
    array, table = io.BytesIO(), io.BytesIO()
    np.save(array, VECTORS)
    columns = {"id": range(ROWS), "vector": pa.array(list(VECTORS), pa.list_(pa.float32())), "n": range(ROWS)}
    pq.write_table(pa.table(columns), table, row_group_size=20)
    objects = {
        "lines/a.jsonl.gz": gzip.compress(lines(0, 40)),
        "lines/b.jsonl": lines(40, ROWS),
        "lines/notes.txt": b"no rows",
        "v.npy": array.getvalue(),
        "v.parquet": table.getvalue(),
        "names.txt": "".join(f"point {n}\n" for n in range(ROWS)).encode(),
    }
    for key, body in objects.items():
        client.put_object(Bucket="data", Key=key, Body=body)
    client.close()


@pytest.fixture(autouse=True)
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{endpoint}/moto-api/reset-auth", content=b"1000000")


@pytest.mark.parametrize("uri", ["s3://data/lines", "s3://data/lines/*.jsonl*", "s3://data/v.parquet"])
def test_rows_of_s3_are_those_that_were_put(data: DataDir, run: Run, uri: str) -> None:
    done = run(uri)
    assert (done.rows, done.rejected) == (ROWS, 0)
    with reading(data) as view:
        assert [json.loads(point.payload)["n"] for point in view.retrieve(range(ROWS))] == list(range(ROWS))


def test_an_array_and_its_ids(data: DataDir, run: Run) -> None:
    done = run("s3://data/v.npy", fields=Fields(vector="vector", ids="s3://data/names.txt"), metric="Dot")
    assert done.rows == ROWS
    with reading(data) as view:
        (point,) = view.retrieve(["point 7"])
        np.testing.assert_array_equal(point.vectors[""], VECTORS[7])


def test_a_bundle_goes_through_s3(data: DataDir, tools: Tools) -> None:
    job = Import(uri="s3://data/v.parquet", fields=Fields(vector="vector"))
    with Bundle("s3://data/bundle", "c") as bundle:
        run_import(job, bundle, tools)
    done = publish("s3://data/bundle", data)
    assert (done.points, done.manifest.source) == (ROWS, "publish s3://data/bundle")
    with reading(data) as view:
        assert [json.loads(point.payload)["n"] for point in view.retrieve(range(ROWS))] == list(range(ROWS))
    with pytest.raises(VssError, match="s3://data/bundle is not an empty folder"):
        Bundle("s3://data/bundle", "c")


def publish(uri: str, data: DataDir) -> Adopted:
    return run_publish(data, Publication(uri=uri), INDEXERS, LocalWriter(data), Silent())


@pytest.mark.parametrize("use", [publish, lambda uri, data: Bundle(uri, "c")], ids=["publish", "build"])
def test_a_bundles_place_that_cannot_be_used_is_told(
    data: DataDir, monkeypatch: pytest.MonkeyPatch, use: Callable[[str, DataDir], Any]
) -> None:
    def said(uri: str) -> str:
        with pytest.raises(VssError) as caught:
            use(uri, data)
        assert SECRET not in str(caught.value)
        return str(caught.value)

    assert "no-such-bucket" in said("s3://no-such-bucket/bundle")
    assert "s3://data/bundle" in said(f"s3://me:{SECRET}@data/bundle")
    assert "wanted a path" in said("nope://data/bundle")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "there are no credentials" in said("s3://data/bundle")


def refused(run: Run, uri: str, **options: Any) -> VssError:
    with pytest.raises(VssError) as caught:
        run(uri, **options)
    said = str(caught.value)
    assert SECRET not in said
    assert "\n" not in said
    assert len(said) < 300
    return caught.value


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://no-such-bucket/a.jsonl", "there is no bucket 'no-such-bucket'"),
        ("s3://no-such-bucket/*.jsonl", "there is no bucket 'no-such-bucket'"),
        ("s3://no-such-bucket/lines/*.jsonl", "there is no bucket 'no-such-bucket'"),
        ("s3://data/none.jsonl", "there is no file s3://data/none.jsonl"),
        ("s3://data/none/*.jsonl", "there is no file s3://data/none/*.jsonl"),
    ],
)
def test_what_is_not_there_is_named(data: DataDir, run: Run, uri: str, said: str) -> None:
    error = refused(run, uri)
    assert (error.code, said in str(error)) == (Code.NOT_FOUND, True), str(error)
    assert names(data) == []


def test_no_credentials(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = refused(run, "s3://data/lines/*.jsonl")
    assert "no credentials" in error.message
    assert error.hint is not None
    assert "AWS_ACCESS_KEY_ID" in error.hint


@pytest.mark.parametrize("uri", ["s3://data/lines", "s3://data/lines/b.jsonl", "s3://data/*.parquet"])
def test_access_denied(run: Run, endpoint: str, uri: str) -> None:
    httpx.post(f"{endpoint}/moto-api/reset-auth", content=b"0").raise_for_status()
    error = refused(run, uri)
    assert (error.code, "denied" in error.message) == (Code.STORAGE, True), str(error)


def test_an_endpoint_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    error = refused(run, "s3://data/lines/b.jsonl")
    assert f"http://127.0.0.1:{port} does not answer" in error.message


def test_protocols_that_nothing_opens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    assert refused(run, "s3://data/v.npy").hint == "pip install 'vss-service[s3]'"
    assert "wanted a path" in refused(run, "nope://data/v.npy").message


def test_a_uri_is_shown_without_its_secrets() -> None:
    assert shown(f"https://me:{SECRET}@host/a.jsonl?X-Amz-Signature={SECRET}") == "https://host/a.jsonl"
    assert shown("s3://bucket/part-?.jsonl") == "s3://bucket/part-?.jsonl"
    assert shown("a@b.jsonl") == "a@b.jsonl"
