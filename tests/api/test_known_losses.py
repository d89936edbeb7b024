"""qdrant #9201, weaviate #11434, valkey #1121, ClickHouse #104079: NaN, Inf and 1e30 came in by a binary or a batch
path and ranked on top of every query; a zero vector was undefined behaviour. Here every path of a vector is tried.

Safeguard: `vss.vectors.as_vectors`, which all of them share. Files are tried in tests/jobs (`test_refused_values`),
bundles in tests/jobs (`test_bundles`), what an embedder makes in `api.routes.writes` by the same gate.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

GOOD = [1.0, 2.0, 2.0]
BAD = {
    "NaN": "[1, NaN, 2]",
    "Inf": "[1, Infinity, 2]",
    "-Inf": "[1, -Infinity, 2]",
    "1e30": "[1, 1e30, 2]",
    "1e999": "[1, 1e999, 2]",
    "zero": "[0, 0, 0]",
    "null": "[1, null, 2]",
}
WRITES: dict[str, tuple[str, str, str]] = {
    "points": ("PUT", "/points", '{"points": [{"id": 8, "vector": GOOD}, {"id": 9, "vector": BAD}]}'),
    "columns": ("PUT", "/points", '{"batch": {"ids": [8, 9], "vectors": [GOOD, BAD]}}'),
    "batch": ("POST", "/points/batch", '{"operations": [{"upsert": {"points": [{"id": 9, "vector": BAD}]}}]}'),
    "vectors": ("PUT", "/points/vectors", '{"points": [{"id": 1, "vector": BAD}]}'),
    "vectors in a batch": (
        "POST",
        "/points/batch",
        '{"operations": [{"update_vectors": {"points": [{"id": 1, "vector": BAD}]}}]}',
    ),
}
READS: dict[str, tuple[str, str, str]] = {
    "query": ("POST", "/points/query", '{"query": BAD}'),
    "nearest": ("POST", "/points/query", '{"query": {"nearest": BAD}}'),
    "recommend": ("POST", "/points/query", '{"query": {"recommend": {"positive": [1, BAD]}}}'),
    "queries": ("POST", "/points/query/batch", '{"searches": [{"query": GOOD}, {"query": BAD}]}'),
}


@pytest.fixture
def name(http: httpx.Client) -> str:
    """A new collection of one point."""
    made = f"c-{uuid4().hex[:10]}"
    http.put(f"/collections/{made}", json={"vectors": {"size": 3, "distance": "Cosine"}}).raise_for_status()
    http.put(f"/collections/{made}/points", json={"points": [{"id": 1, "vector": GOOD}]}).raise_for_status()
    return made


def found(http: httpx.Client, name: str) -> Any:
    """All that a query finds."""
    answer = http.post(f"/collections/{name}/points/query", json={"query": GOOD, "limit": 10, "with_vector": True})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["points"]


@pytest.mark.parametrize("path", [*WRITES, *READS])
def test_no_path_takes_a_vector_that_is_none(http: httpx.Client, name: str, path: str) -> None:
    before = found(http, name)
    method, where, body = (WRITES | READS)[path]
    for what, vector in BAD.items():
        content = body.replace("GOOD", json.dumps(GOOD)).replace("BAD", vector)
        answer = http.request(method, f"/collections/{name}{where}", content=content)
        assert answer.status_code == 400, (what, answer.text)
        assert found(http, name) == before, what
