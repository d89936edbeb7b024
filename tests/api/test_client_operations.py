"""Every public operation of the unmodified qdrant-client, sync and async: driven, or refused by name.

Answers are parsed by the client into its own models, so each call here is also a check of the answer's shape.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.api.clusters import clustered, nearest
from tests.api.server_process import ServerProcess

COUNT, DIM = 40, 8
VECTORS = clustered(COUNT, DIM, seed=11)
OTHERS = clustered(COUNT, 4, seed=12)


class Client:
    """A client whose calls are noted; those of the async one are waited for."""

    def __init__(self, made: QdrantClient | AsyncQdrantClient) -> None:
        self.made = made
        self.called: set[str] = set()
        self.runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self.made, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.called.add(name)

            async def wait() -> Any:
                answer = operation(*args, **kwargs)
                return await answer if inspect.isawaitable(answer) else answer

            return self.runner.run(wait()) if isinstance(self.made, AsyncQdrantClient) else operation(*args, **kwargs)

        return call


@pytest.fixture(scope="module", params=["sync", "async"])
def client(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Client]:
    """Both clients; the sync one checks the server's version, and a warning would be an error here."""
    if request.param == "sync":
        yielded = Client(QdrantClient(url=server.url, timeout=30))
    else:
        yielded = Client(AsyncQdrantClient(url=server.url, timeout=30, check_compatibility=False))
    yield yielded
    yielded.close()
    yielded.runner.close()


def payload(row: int) -> dict[str, Any]:
    """What row number `row` says of itself."""
    return {"row": row, "group": "abc"[row % 3], "at": f"2024-01-{row % 28 + 1:02}T00:00:00Z", "deep": {"x": row}}


def made(client: Client, *, count: int = COUNT) -> str:
    """A collection of two named vectors; every fourth point lacks `b`."""
    name = f"c-{uuid4().hex[:10]}"
    client.create_collection(
        name,
        vectors_config={
            "a": models.VectorParams(size=DIM, distance=models.Distance.COSINE),
            "b": models.VectorParams(size=4, distance=models.Distance.EUCLID),
        },
    )
    points = [
        models.PointStruct(
            id=row,
            vector={"a": VECTORS[row].tolist()} | ({"b": OTHERS[row].tolist()} if row % 4 else {}),
            payload=payload(row),
        )
        for row in range(count)
    ]
    client.upsert(name, points)
    return name


def ids(points: Any) -> list[int]:
    """The ids of hits or records."""
    return [point.id for point in points]


def where(key: str, value: Any) -> models.Filter:
    """A filter on one value."""
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])


def stored(client: Client, name: str, *wanted: int) -> dict[int, dict[str, Any]]:
    """Payloads by id."""
    return {point.id: point.payload for point in client.retrieve(name, list(wanted))}


def collections(client: Client) -> None:
    name = made(client)
    assert name in [one.name for one in client.get_collections().collections]
    assert client.collection_exists(name)
    info = client.get_collection(name)
    assert info.points_count == COUNT
    assert set(info.config.params.vectors) == {"a", "b"}
    assert client.delete_collection(name)
    assert not client.collection_exists(name)
    assert not client.delete_collection(name)


def recreate(client: Client) -> None:
    name = made(client)
    with pytest.warns(DeprecationWarning, match="recreate_collection"):
        client.recreate_collection(name, models.VectorParams(size=2, distance=models.Distance.DOT))
    assert client.get_collection(name).points_count == 0


def create_with_graph(client: Client) -> None:
    name = f"g-{uuid4().hex[:8]}"
    client.create_collection(
        name,
        vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE),
        hnsw_config=models.HnswConfigDiff(m=24, ef_construct=80, full_scan_threshold=1000),
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        ),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=10_000),
    )
    config = client.get_collection(name).config
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (24, 80)
    assert config.quantization_config.scalar.type == models.ScalarType.INT8


def update_collection(client: Client) -> None:
    name = made(client, count=3)
    assert client.update_collection(
        name,
        hnsw_config=models.HnswConfigDiff(m=32),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1),
        vectors_config={"a": models.VectorParamsDiff(on_disk=True)},
    )
    assert client.get_collection(name).config.hnsw_config.m == 32
    client.update_collection(
        name,
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)
        ),
    )
    config = client.get_collection(name).config
    assert (config.hnsw_config.m, config.quantization_config.scalar.type) == (32, models.ScalarType.INT8)
    client.update_collection(name, quantization_config=models.Disabled.DISABLED)
    assert client.get_collection(name).config.quantization_config is None
    with pytest.raises(UnexpectedResponse, match=r"params\.replication_factor"):
        client.update_collection(name, collection_params=models.CollectionParamsDiff(replication_factor=3))
    assert client.count(name).count == 3


def upsert(client: Client) -> None:
    name = made(client, count=2)
    client.upsert(name, [models.PointStruct(id=1, vector={"b": OTHERS[7].tolist()}, payload={"new": 1})])
    (point,) = client.retrieve(name, [1], with_vectors=True)
    assert point.payload == {"new": 1}
    assert set(point.vector) == {"b"}
    batch = models.Batch(
        ids=[5, "five", "6f1d1a52-6d0c-4b5e-9a63-2f8d9d0f6a11"],
        vectors={"a": VECTORS[:3].tolist(), "b": OTHERS[:3].tolist()},
        payloads=[payload(0), {}, payload(2)],
    )
    client.upsert(name, batch)
    found = client.retrieve(name, batch.ids, with_vectors=["b"])
    assert ids(found) == batch.ids
    assert [one.payload for one in found] == [payload(0), {}, payload(2)]
    np.testing.assert_array_equal([one.vector["b"] for one in found], OTHERS[:3])


def upsert_unnamed(client: Client) -> None:
    name = f"u-{uuid4().hex[:8]}"
    client.create_collection(name, models.VectorParams(size=DIM, distance=models.Distance.DOT))
    client.upsert(name, models.Batch(ids=list(range(COUNT)), vectors=VECTORS.tolist()))
    hits = client.query_points(name, VECTORS[3].tolist(), limit=7)
    assert ids(hits.points) == nearest(VECTORS[3], VECTORS, "Dot")[:7]
    for mode, id_ in ((models.UpdateMode.INSERT_ONLY, 1), (models.UpdateMode.UPDATE_ONLY, COUNT)):
        client.upsert(name, models.Batch(ids=[id_], vectors=VECTORS[:1].tolist()), update_mode=mode)
    assert client.count(name).count == COUNT
    np.testing.assert_array_equal(client.retrieve(name, [1], with_vectors=True)[0].vector, VECTORS[1])


def upload(client: Client) -> None:
    name = f"u-{uuid4().hex[:8]}"
    client.create_collection(name, models.VectorParams(size=DIM, distance=models.Distance.DOT))
    client.upload_collection(
        name, VECTORS[:20], [payload(row) for row in range(20)], ids=range(20), batch_size=7, wait=True
    )
    client.upload_points(
        name, [models.PointStruct(id=row, vector=VECTORS[row].tolist()) for row in range(20, COUNT)], wait=True
    )
    assert client.count(name).count == COUNT
    assert (
        ids(client.query_points(name, VECTORS[0].tolist(), limit=9).points) == nearest(VECTORS[0], VECTORS, "Dot")[:9]
    )


def delete(client: Client) -> None:
    name = made(client)
    client.delete(name, [0, 1, "none"])
    client.delete(name, models.PointIdsList(points=[2]))
    client.delete(name, where("group", "a"))
    left = [row for row in range(3, COUNT) if row % 3]
    assert ids(client.scroll(name, limit=COUNT)[0]) == left
    client.delete(name, models.FilterSelector(filter=models.Filter(must_not=[models.HasIdCondition(has_id=[4])])))
    assert ids(client.scroll(name)[0]) == [4]
    assert client.count(name, count_filter=where("group", "b")).count == 1


def payloads(client: Client) -> None:
    name = made(client)
    client.set_payload(name, {"group": "z", "more": [1]}, points=[1, 2, 99])
    assert stored(client, name, 1)[1] == payload(1) | {"group": "z", "more": [1]}
    client.set_payload(name, {"y": 2}, points=where("group", "z"), key="deep")
    assert stored(client, name, 2)[2]["deep"] == {"x": 2, "y": 2}
    assert client.count(name, count_filter=where("deep.y", 2)).count == 2
    client.overwrite_payload(name, {"only": True}, points=[1])
    assert stored(client, name, 1) == {1: {"only": True}}
    client.delete_payload(name, ["deep.x", "deep.y", "row", "none"], points=where("group", "z"))
    assert stored(client, name, 2)[2] == {"group": "z", "more": [1], "at": payload(2)["at"], "deep": {}}
    client.clear_payload(name, [2])
    assert stored(client, name, 2) == {2: {}}
    client.clear_payload(name, models.FilterSelector(filter=where("only", True)))
    assert stored(client, name, 1) == {1: {}}
    assert client.count(name, count_filter=where("group", "z")).count == 0
    hit = client.query_points(name, VECTORS[1].tolist(), using="a", limit=1).points[0]
    assert (hit.id, hit.payload) == (1, {})


def vectors(client: Client) -> None:
    name = made(client)
    client.update_vectors(
        name,
        [
            models.PointVectors(id=0, vector={"b": OTHERS[0].tolist()}),
            models.PointVectors(id=1, vector={"a": VECTORS[9].tolist()}),
            models.PointVectors(id=99, vector={"a": VECTORS[9].tolist()}),
        ],
    )
    assert stored(client, name, 0, 1, 99) == {0: payload(0), 1: payload(1)}
    assert ids(client.query_points(name, OTHERS[0].tolist(), using="b", limit=1).points) == [0]
    assert set(ids(client.query_points(name, VECTORS[9].tolist(), using="a", limit=2).points)) == {1, 9}
    client.delete_vectors(name, ["a"], points=[9])
    client.delete_vectors(name, ["a", "b"], points=where("group", "b"))
    assert ids(client.query_points(name, VECTORS[9].tolist(), using="a", limit=1).points) != [9]
    found = {point.id: set(point.vector or {}) for point in client.retrieve(name, [0, 4, 9], with_vectors=True)}
    assert found == {0: {"a", "b"}, 4: set(), 9: {"b"}}
    has = models.Filter(must=[models.HasVectorCondition(has_vector="a")])
    assert client.count(name, count_filter=has).count == sum(row % 3 != 1 for row in range(COUNT)) - 1


def batch(client: Client) -> None:
    name = made(client, count=6)
    done = client.batch_update_points(
        name,
        [
            models.UpsertOperation(
                upsert=models.PointsList(points=[models.PointStruct(id=10, vector={"a": VECTORS[10].tolist()})])
            ),
            models.UpsertOperation(
                upsert=models.PointsBatch(batch=models.Batch(ids=[11], vectors={"a": VECTORS[11:12].tolist()}))
            ),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"k": 1}, points=[10, 11])),
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload={"k": 2}, filter=where("k", 1), key="deep")
            ),
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["group"], points=[0])),
            models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[1])),
            models.UpdateVectorsOperation(
                update_vectors=models.UpdateVectors(
                    points=[models.PointVectors(id=10, vector={"b": OTHERS[1].tolist()})]
                )
            ),
            models.DeleteVectorsOperation(delete_vectors=models.DeleteVectors(points=[2], vector=["a"])),
            models.DeleteOperation(delete=models.FilterSelector(filter=where("row", 5))),
            models.DeleteOperation(delete=models.PointIdsList(points=[4])),
        ],
    )
    assert [one.status for one in done] == [models.UpdateStatus.COMPLETED] * 10
    found = {point.id: point for point in client.scroll(name, limit=100, with_vectors=True)[0]}
    assert set(found) == {0, 1, 2, 3, 10, 11}
    assert found[10].payload == found[11].payload == {"k": 1, "deep": {"k": 2}}
    assert "group" not in found[0].payload
    assert found[1].payload == {}
    assert set(found[10].vector) == {"a", "b"}
    assert set(found[2].vector) == {"b"}


def scroll(client: Client) -> None:
    name = made(client)
    page, following = client.scroll(name, limit=15, with_payload=["row"], with_vectors=["b"])
    assert (ids(page), following) == (list(range(15)), 15)
    assert page[1].payload == {"row": 1}
    assert set(page[1].vector) == {"b"}
    assert not page[0].vector
    assert ids(client.scroll(name, offset=following, limit=100)[0]) == list(range(15, COUNT))
    for order, expected in (
        ("deep.x", list(range(5))),
        (models.OrderBy(key="row", direction=models.Direction.DESC), list(range(COUNT - 1, COUNT - 6, -1))),
        (models.OrderBy(key="row", start_from=30), list(range(30, 35))),
        (models.OrderBy(key="at", start_from=datetime(2024, 1, 27, 12, tzinfo=UTC)), [27]),
    ):
        found, following = client.scroll(name, limit=5, order_by=order)
        assert (ids(found), following) == (expected, None)
    newest, _ = client.scroll(
        name,
        limit=3,
        order_by=models.OrderBy(key="row", direction=models.Direction.DESC),
        scroll_filter=where("group", "b"),
    )
    assert ids(newest) == [37, 34, 31]


def count(client: Client) -> None:
    name = made(client)
    assert client.count(name, exact=False).count == client.count(name, exact=True).count == COUNT
    assert client.count(name, count_filter=where("group", "c"), exact=False).count == 13


def query(client: Client) -> None:
    name = made(client)
    target = VECTORS[5] + 0.05
    expected = nearest(target, VECTORS, "Cosine")
    hits = client.query_points(
        name,
        target.tolist(),
        using="a",
        limit=5,
        offset=2,
        with_vectors=True,
        search_params=models.SearchParams(exact=True, hnsw_ef=64),
    )
    assert ids(hits.points) == expected[2:7]
    have = [row for row in nearest(OTHERS[5], OTHERS, "Euclid") if row % 4]
    near = client.query_points(name, OTHERS[5].tolist(), using="b", limit=COUNT)
    assert ids(near.points) == have
    assert [point.score for point in near.points] == sorted(point.score for point in near.points)
    requests = [
        models.QueryRequest(query=target.tolist(), using="a", limit=3, filter=where("group", "a")),
        models.QueryRequest(query=6, using="b", limit=2, with_payload=["row"]),
    ]
    one, two = client.query_batch_points(name, requests)
    assert ids(one.points) == [row for row in expected if row % 3 == 0][:3]
    assert len(two.points) == 2


def recommend(client: Client) -> None:
    name = made(client)
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    like = unit @ unit.T

    def ask(strategy: str, positive: list[Any], negative: list[Any]) -> list[int]:
        examples = models.RecommendInput(
            positive=positive, negative=negative, strategy=models.RecommendStrategy(strategy)
        )
        return ids(client.query_points(name, models.RecommendQuery(recommend=examples), using="a", limit=8).points)

    def best(scores: Any, hidden: tuple[int, ...]) -> list[int]:
        return [row for row in np.argsort(-scores, kind="stable").tolist() if row not in hidden][:8]

    total = like[[1, 2]].sum(axis=0) - like[7]
    assert ask("sum_scores", [1, 2], [7]) == best(total, (1, 2, 7))
    assert ask("sum_scores", [VECTORS[1].tolist(), 2], [VECTORS[7].tolist()]) == best(total, (2,))
    liked, disliked = like[[1, 2]].max(axis=0), like[7]
    score = np.where(liked > disliked, (1 + liked / (1 + abs(liked))) / 2, -(1 + disliked / (1 + abs(disliked))) / 2)
    assert ask("best_score", [1, 2], [7]) == best(score, (1, 2, 7))
    assert ask("best_score", [], [7]) == best(-like[7], (7,))
    sent = 5 * VECTORS[2]  # its length counts, as in Qdrant; stored vectors have length 1
    assert ask("average_vector", [1, sent.tolist()], [7]) == best(unit @ (unit[1] + sent - unit[7]), (1, 7))
    assert best(unit @ (unit[1] + sent - unit[7]), (1, 7)) != best(unit @ (unit[1] + unit[2] - unit[7]), (1, 7))


def lookup(client: Client) -> None:
    name, other = made(client), made(client, count=3)
    client.upsert(other, [models.PointStruct(id="me", vector={"a": VECTORS[8].tolist()})])
    place = models.LookupLocation(collection=other, vector="a")
    hits = client.query_points(name, "me", using="a", limit=4, lookup_from=place)
    assert ids(hits.points) == nearest(VECTORS[8], VECTORS, "Cosine")[:4]


def aliases(client: Client) -> None:
    old, new = made(client, count=2), made(client, count=5)
    alias = f"live-{uuid4().hex[:6]}"
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=old, alias_name=alias))
    assert client.update_collection_aliases([create])
    assert client.count(alias).count == 2
    assert client.collection_exists(alias)
    switch = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
        models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=new, alias_name=alias)),
    ]
    client.update_collection_aliases(switch)
    assert client.count(alias).count == 5
    client.delete(alias, [0])
    assert client.count(new).count == 4
    renamed = models.RenameAlias(old_alias_name=alias, new_alias_name=alias + "2")
    client.update_collection_aliases([models.RenameAliasOperation(rename_alias=renamed)])
    mine = models.AliasDescription(alias_name=alias + "2", collection_name=new)
    assert client.get_collection_aliases(new).aliases == [mine]
    assert client.get_collection_aliases(old).aliases == []
    assert mine in client.get_aliases().aliases
    with pytest.raises(UnexpectedResponse, match="does not exist"):
        client.count(alias)
    bad = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="gone", alias_name=alias))
    with pytest.raises(UnexpectedResponse, match="which does not exist"):
        client.update_collection_aliases(
            [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias + "2")), bad]
        )
    assert client.get_collection_aliases(new).aliases == [mine]


def payload_index(client: Client) -> None:
    name = made(client)
    client.create_payload_index(name, "group", models.PayloadSchemaType.KEYWORD)
    client.create_payload_index(
        name, "deep.x", models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False)
    )
    client.create_payload_index(name, "none", models.PayloadSchemaType.DATETIME)
    shown = client.get_collection(name).payload_schema
    assert {path: (one.data_type.value, one.points) for path, one in shown.items()} == {
        "group": ("keyword", COUNT),
        "deep.x": ("integer", COUNT),
        "none": ("datetime", 0),
    }
    assert client.count(name, count_filter=where("group", "a")).count == 14
    client.delete_payload_index(name, "deep.x")
    assert set(client.get_collection(name).payload_schema) == {"group", "none"}
    with pytest.raises(UnexpectedResponse, match="field_schema: this is not supported"):
        client.create_payload_index(name, "place", models.PayloadSchemaType.GEO)


def vector_names(client: Client) -> None:
    name = made(client)
    dense = models.DenseVectorConfig(size=3, distance=models.Distance.DOT)
    client.create_vector_name(name, "c", models.DenseVectorNameConfig(dense=dense))
    assert client.query_points(name, [1.0, 0.0, 0.0], using="c").points == []
    client.update_vectors(name, [models.PointVectors(id=3, vector={"c": [1.0, 2.0, 3.0]})])
    assert ids(client.query_points(name, [1.0, 0.0, 0.0], using="c").points) == [3]
    client.delete_vector_name(name, "b")
    assert set(client.get_collection(name).config.params.vectors) == {"a", "c"}
    (point,) = client.retrieve(name, [3], with_vectors=True)
    assert set(point.vector) == {"a", "c"}
    with pytest.raises(UnexpectedResponse, match="got vector name"):
        client.query_points(name, OTHERS[0].tolist(), using="b")
    client.create_vector_name(name, "b", models.DenseVectorNameConfig(dense=dense))
    assert client.query_points(name, [1.0, 0.0, 0.0], using="b").points == []


def info(client: Client) -> None:
    assert client.info().version.startswith("1.")


DRIVEN: dict[str, tuple[Callable[[Client], None], ...]] = {
    "batch_update_points": (batch,),
    "clear_payload": (payloads,),
    "collection_exists": (collections,),
    "count": (count,),
    "create_collection": (collections, create_with_graph),
    "create_payload_index": (payload_index,),
    "create_vector_name": (vector_names,),
    "delete": (delete,),
    "delete_collection": (collections,),
    "delete_payload": (payloads,),
    "delete_payload_index": (payload_index,),
    "delete_vector_name": (vector_names,),
    "delete_vectors": (vectors,),
    "get_aliases": (aliases,),
    "get_collection": (collections,),
    "get_collection_aliases": (aliases,),
    "get_collections": (collections,),
    "info": (info,),
    "overwrite_payload": (payloads,),
    "query_batch_points": (query,),
    "query_points": (query, recommend, lookup),
    "recreate_collection": (recreate,),
    "retrieve": (upsert,),
    "scroll": (scroll,),
    "set_payload": (payloads,),
    "update_collection": (update_collection,),
    "update_collection_aliases": (aliases,),
    "update_vectors": (vectors,),
    "upload_collection": (upload,),
    "upload_points": (upload,),
    "upsert": (upsert, upsert_unnamed),
}
"""Operation -> what drives it."""

_KEY = "key"
REFUSED: dict[str, tuple[Any, ...]] = {
    "cluster_collection_update": ("c", models.DropReplicaOperation(drop_replica=models.Replica(shard_id=0, peer_id=0))),
    "cluster_status": (),
    "cluster_telemetry": (),
    "collection_cluster_info": ("c",),
    "create_full_snapshot": (),
    "create_shard_key": ("c", _KEY),
    "create_shard_snapshot": ("c", 0),
    "create_snapshot": ("c",),
    "delete_full_snapshot": ("s",),
    "delete_shard_key": ("c", _KEY),
    "delete_shard_snapshot": ("c", 0, "s"),
    "delete_snapshot": ("c", "s"),
    "facet": ("c", "key"),
    "get_optimizations": ("c",),
    "list_full_snapshots": (),
    "list_shard_keys": ("c",),
    "list_shard_snapshots": ("c", 0),
    "list_snapshots": ("c",),
    "query_points_groups": ("c", "key", [1.0]),
    "recover_current_peer": (),
    "recover_shard_snapshot": ("c", 0, "file:///s"),
    "recover_snapshot": ("c", "file:///s"),
    "remove_peer": (1,),
    "search_matrix_offsets": ("c",),
    "search_matrix_pairs": ("c",),
}
"""Operation that is refused by name -> arguments to call it with."""

NOT_OVER_HTTP = {
    *("DEFAULT_BATCH_SIZE", "close", "grpc_collections", "grpc_points", "http", "init_options", "migrate"),
    *("get_embedding_size", "list_image_models", "list_late_interaction_multimodal_models"),
    *("list_late_interaction_text_models", "list_sparse_models", "list_text_models"),
}
"""What is no request: the client's own life, gRPC, models inside the client, and copying with the other operations."""

CASES = sorted({one for some in DRIVEN.values() for one in some}, key=lambda one: one.__name__)


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.__name__)
def test_driven(client: Client, case: Callable[[Client], None]) -> None:
    client.called.clear()
    case(client)
    meant = {name for name, some in DRIVEN.items() if case in some}
    assert meant <= client.called


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(client: Client, name: str) -> None:
    with pytest.raises(UnexpectedResponse, match="API is not supported"):
        getattr(client, name)(*REFUSED[name])


@pytest.mark.parametrize("kind", [QdrantClient, AsyncQdrantClient])
def test_every_operation_of_the_client_is_driven_or_refused(kind: type) -> None:
    public = {name for name in dir(kind) if not name.startswith("_")} - NOT_OVER_HTTP
    assert public == set(DRIVEN) | set(REFUSED)
    assert (len(DRIVEN), len(REFUSED)) == (31, 25)
