"""Bad points among good ones: nothing is dropped in silence (qdrant #9039); of one id the last counts."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.api.server_process import ServerProcess

DIM = 4
GOOD = [1.0, 2.0, 3.0, 4.0]
BAD: list[tuple[dict[str, Any], Any, str, str]] = [
    ({"id": 10, "vector": [1.0, 2.0]}, 10, "vector", "got a vector of 2 numbers, wanted 4"),
    ({"id": 11, "vector": [0.0] * DIM}, 11, "vector", "zero vector"),
    ({"id": 12, "vector": [1e300] * DIM}, 12, "vector", "wanted a finite number"),
    ({"id": 13, "vector": {"none": GOOD}}, 13, "vector.none", "got vector name 'none'"),
    ({"id": 14, "vector": "text"}, 14, "vector", "got str"),
    ({"id": 15, "vector": GOOD, "payload": [1]}, 15, "payload", "got a payload of type list"),
    ({"id": 16, "vector": GOOD, "extra": 1}, 16, "extra", "does not exist"),
    ({"id": "", "vector": GOOD}, "", "id", "got an empty id"),
    ({"id": 1.5, "vector": GOOD}, None, "id", "got float"),
    ({"vector": GOOD}, None, "id", "got nothing"),
    (7, None, "", "got int, wanted object"),  # type: ignore[list-item]
]


@pytest.fixture
def name(http: httpx.Client) -> str:
    """A new collection."""
    made = f"c-{uuid4().hex[:10]}"
    http.put(f"/collections/{made}", json={"vectors": {"size": DIM, "distance": "Cosine"}}).raise_for_status()
    return made


def count(http: httpx.Client, name: str) -> int:
    found: int = http.post(f"/collections/{name}/points/count", json={}).json()["result"]["count"]
    return found


def mixed() -> list[Any]:
    """Each bad point behind a good one."""
    points: list[Any] = []
    for number, (bad, *_) in enumerate(BAD):
        points += [{"id": 100 + number, "vector": GOOD, "payload": {"n": number}}, bad]
    return points


def check_items(items: list[dict[str, Any]]) -> None:
    assert [item["index"] for item in items] == list(range(1, 2 * len(BAD), 2))
    for item, (_, id_, field, said) in zip(items, BAD, strict=True):
        where = f"points[{item['index']}]"
        assert item["field"] == (f"{where}.{field}" if field else where)
        assert said in item["error"]
        assert item.get("id") == id_
        assert item["code"] in ("invalid_argument", "unsupported")


def test_all_bad_points_are_named_and_none_is_written(http: httpx.Client, name: str) -> None:
    answer = http.put(f"/collections/{name}/points", json={"points": mixed()})
    assert answer.status_code == 400
    body = answer.json()
    check_items(body["vss"]["items"])
    assert body["vss"]["field"] == "points[1].vector"
    assert f"{len(BAD)} of {2 * len(BAD)} points are wrong" in body["status"]["error"]
    assert count(http, name) == 0


def test_bad_points_are_skipped_when_asked_and_named_all_the_same(http: httpx.Client, name: str) -> None:
    body = {"points": mixed(), "vss": {"on_error": "skip"}}
    answer = http.put(f"/collections/{name}/points?wait=true", json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()["vss"]
    check_items(said["items"])
    assert (said["taken"], said["refused"]) == (len(BAD), len(BAD))
    assert count(http, name) == len(BAD)
    ids = [100 + number for number in range(len(BAD))]
    found = http.post(f"/collections/{name}/points", json={"ids": ids}).json()["result"]
    assert [one["payload"]["n"] for one in found] == list(range(len(BAD)))


def test_columns_and_new_vectors_are_told_of_alike(http: httpx.Client, name: str) -> None:
    columns = {"ids": [1, 2, 3], "vectors": [GOOD, GOOD[:2], GOOD], "payloads": [{}, {}, 5]}
    refused = http.put(f"/collections/{name}/points", json={"batch": columns})
    assert [item["id"] for item in refused.json()["vss"]["items"]] == [2, 3]
    assert [item["field"] for item in refused.json()["vss"]["items"]] == ["batch.vectors[1]", "batch.payloads[2]"]
    assert count(http, name) == 0
    skipping = {"vss": {"on_error": "skip"}}
    assert http.put(f"/collections/{name}/points", json={"batch": columns} | skipping).json()["vss"]["taken"] == 1
    new = [{"id": 1, "vector": [4.0, 0.0, 0.0, 0.0]}, {"id": 1, "vector": None}, {"id": 1, "vector": [1.0]}]
    said = http.put(f"/collections/{name}/points/vectors", json={"points": new} | skipping).json()["vss"]
    assert [item["index"] for item in said["items"]] == [1, 2]
    (found,) = http.post(f"/collections/{name}/points", json={"ids": [1], "with_vector": True}).json()["result"]
    assert found["vector"] == [1.0, 0.0, 0.0, 0.0]


def test_points_of_a_batch_are_told_of_with_their_operation(http: httpx.Client, name: str) -> None:
    points = [{"id": 1, "vector": GOOD}, {"id": 2, "vector": GOOD[:1]}]
    body = {
        "operations": [{"delete": {"points": [9]}}, {"upsert": {"points": points, "vss": {"on_error": "skip"}}}],
    }
    said = http.post(f"/collections/{name}/points/batch", json=body).json()
    assert len(said["result"]) == 2
    (item,) = said["vss"]["items"]
    assert (item["operation"], item["index"], item["id"]) == (1, 1, 2)
    assert count(http, name) == 1


def test_nothing_good_is_an_error_even_when_bad_points_are_skipped(http: httpx.Client, name: str) -> None:
    body = {"points": [{"id": 1, "vector": [1.0]}], "vss": {"on_error": "skip"}}
    answer = http.put(f"/collections/{name}/points", json=body)
    assert answer.status_code == 400
    assert len(answer.json()["vss"]["items"]) == 1


def test_qdrants_client_sees_the_first_bad_point(server: ServerProcess, http: httpx.Client, name: str) -> None:
    client = QdrantClient(url=server.url, timeout=30)
    points = [models.PointStruct(id=1, vector=GOOD), models.PointStruct(id=2, vector=GOOD[:3])]
    with pytest.raises(UnexpectedResponse, match=r"points\[1\].vector: got a vector of 3 numbers, wanted 4") as caught:
        client.upsert(name, points)
    client.close()
    assert caught.value.status_code == 400
    assert json.loads(caught.value.content)["vss"]["items"][0]["id"] == 2
    assert count(http, name) == 0


def test_the_last_of_one_id_counts_in_lists_columns_and_batches(http: httpx.Client, name: str) -> None:
    def there() -> float:
        (found,) = http.post(f"/collections/{name}/points", json={"ids": [1]}).json()["result"]
        value: float = found["payload"]["n"]
        return value

    def point(number: int) -> dict[str, Any]:
        return {"id": 1, "vector": GOOD, "payload": {"n": number}}

    path = f"/collections/{name}/points"
    http.put(path, json={"points": [point(0), point(1), point(2)]}).raise_for_status()
    assert there() == 2
    columns = {"ids": [1, 1], "vectors": [GOOD, GOOD], "payloads": [{"n": 3}, {"n": 4}]}
    http.put(path, json={"batch": columns}).raise_for_status()
    assert there() == 4
    operations = [{"upsert": {"points": [point(5), point(6)]}}, {"upsert": {"points": [point(7)]}}]
    http.post(path + "/batch", json={"operations": operations}).raise_for_status()
    assert there() == 7
    for mode, wanted in (("update_only", 9), ("insert_only", 9)):
        http.put(path, json={"points": [point(8), point(9)], "update_mode": mode}).raise_for_status()
        assert there() == wanted
    assert count(http, name) == 1
    rows = np.arange(2_000) % 700
    many = [{"id": int(row), "vector": GOOD, "payload": {"n": place}} for place, row in enumerate(rows)]
    http.put(path, json={"points": many}).raise_for_status()
    assert there() == 1_401
    assert count(http, name) == 700
