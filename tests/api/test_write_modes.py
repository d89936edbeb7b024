"""Which points an upsert writes (`update_mode`, `update_filter`), as Qdrant's own local client has it; and dry runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from tests.api.clusters import clustered
from tests.api.server_process import ServerProcess

DIM = 4
VECTORS = clustered(200, DIM, seed=5)
GROUPS = "abc"


@pytest.fixture
def pair(server: ServerProcess) -> Iterator[tuple[QdrantClient, QdrantClient, str]]:
    """Qdrant's client of our server, its own engine, and a collection that both have."""
    ours, theirs, name = QdrantClient(url=server.url, timeout=30), QdrantClient(":memory:"), f"m-{uuid4().hex[:8]}"
    for client in (ours, theirs):
        client.create_collection(name, models.VectorParams(size=DIM, distance=models.Distance.EUCLID))
    yield ours, theirs, name
    ours.close()
    theirs.close()


def points(rng: np.random.Generator, ids: Any) -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=int(one),
            vector=VECTORS[rng.integers(200)].tolist(),
            payload={"group": GROUPS[rng.integers(3)], "n": int(rng.integers(1000))},
        )
        for one in ids
    ]


def passing(rng: np.random.Generator) -> models.Filter | None:
    if rng.random() < 0.3:
        return None
    match = models.MatchValue(value=GROUPS[rng.integers(3)])
    return models.Filter(must=[models.FieldCondition(key="group", match=match)])


def test_every_mode_and_filter_does_what_qdrant_does(pair: tuple[QdrantClient, QdrantClient, str]) -> None:
    ours, theirs, name = pair
    rng = np.random.default_rng(3)
    for _ in range(60):
        ids = rng.choice(40, size=rng.integers(1, 12), replace=False)
        drawn, where = points(rng, ids), passing(rng)
        mode = [None, *models.UpdateMode][rng.integers(4)]
        kind = rng.random()
        for client in pair[:2]:
            if kind < 0.8:
                client.upsert(name, drawn, update_mode=mode, update_filter=where)
            elif kind < 0.9:
                client.delete(name, ids[:3].tolist())
            else:
                there = [one.id for one in client.retrieve(name, ids.tolist())]
                new = [models.PointVectors(id=one.id, vector=one.vector) for one in drawn if one.id in there]
                if new:
                    client.update_vectors(name, new, update_filter=where)
        found = [
            {
                one.id: (one.payload, np.asarray(one.vector, np.float32).tolist())
                for one in client.scroll(name, limit=1_000, with_vectors=True)[0]
            }
            for client in (ours, theirs)
        ]
        assert found[0] == found[1]
    assert 10 < len(found[0]) < 40


def test_modes_select_at_the_moment_of_the_commit_in_a_batch(http: httpx.Client) -> None:
    name = f"m-{uuid4().hex[:8]}"
    http.put(f"/collections/{name}", json={"vectors": {"size": DIM, "distance": "Euclid"}}).raise_for_status()

    def upsert(number: int, **more: Any) -> dict[str, Any]:
        return {"upsert": {"points": [{"id": 1, "vector": [0.0] * DIM, "payload": {"n": number}}], **more}}

    operations = [
        upsert(1, update_mode="update_only"),
        upsert(2, update_mode="insert_only"),
        upsert(3, update_mode="insert_only"),
        upsert(4, update_filter={"must": [{"key": "n", "match": {"value": 3}}]}),
        upsert(5, update_filter={"must": [{"key": "n", "match": {"value": 2}}]}),
    ]
    http.post(f"/collections/{name}/points/batch", json={"operations": operations}).raise_for_status()
    (found,) = http.post(f"/collections/{name}/points/scroll", json={}).json()["result"]["points"]
    assert found["payload"] == {"n": 5}


PATHS = [
    ("POST", "/delete", {}),
    ("POST", "/payload", {"payload": {"x": 1}}),
    ("PUT", "/payload", {"payload": {"x": 1}}),
    ("POST", "/payload/delete", {"keys": ["group"]}),
    ("POST", "/payload/clear", {}),
    ("POST", "/vectors/delete", {"vector": [""]}),
]


def test_a_dry_run_says_how_many_points_and_changes_none(http: httpx.Client) -> None:
    name = f"d-{uuid4().hex[:8]}"
    base = f"/collections/{name}/points"
    http.put(f"/collections/{name}", json={"vectors": {"size": DIM, "distance": "Euclid"}}).raise_for_status()
    many = [{"id": row, "vector": VECTORS[row].tolist(), "payload": {"group": GROUPS[row % 3]}} for row in range(100)]
    http.put(base, json={"points": many}).raise_for_status()

    def everything() -> Any:
        return http.post(base + "/scroll", json={"limit": 1_000, "with_vector": True}).json()["result"]["points"]

    before = everything()
    chosen = {"filter": {"must": [{"key": "group", "match": {"value": "a"}}]}}
    for method, path, body in PATHS:
        for select, wanted in ((chosen, 34), ({"points": [1, 2, 2, 500]}, 2)):
            asked = http.request(method, base + path, json={**body, **select, "vss": {"dry_run": True}})
            assert asked.status_code == 200, asked.text
            assert asked.json()["vss"]["points"] == wanted, path
            assert asked.json()["vss"]["dry_run"] is True
    new = {"points": [many[0], {**many[1], "id": 500}], "update_mode": "insert_only", "vss": {"dry_run": True}}
    assert http.put(base, json=new).json()["vss"]["points"] == 1
    assert everything() == before
    grown = {"payload": {"x": "y" * 1_000_000}, **chosen}
    http.post(base + "/payload", json=grown).raise_for_status()
    more = {"payload": {"z": "y" * 100_000}, **chosen, "vss": {"dry_run": True}}
    refused = http.post(base + "/payload", json=more)
    assert refused.status_code == 400, "a dry run refuses what the write itself would refuse"
    really = http.post(base + "/delete", json=chosen)
    assert really.status_code == 200
    assert len(everything()) == 66


def test_a_dry_run_has_no_place_in_a_batch(http: httpx.Client) -> None:
    name = f"d-{uuid4().hex[:8]}"
    http.put(f"/collections/{name}", json={"vectors": {"size": DIM, "distance": "Euclid"}}).raise_for_status()
    operations = [{"delete": {"points": [1], "vss": {"dry_run": True}}}]
    answer = http.post(f"/collections/{name}/points/batch", json={"operations": operations})
    assert answer.status_code == 400
    assert answer.json()["vss"]["field"] == "operations[0].delete.vss.dry_run"
