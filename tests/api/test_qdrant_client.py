"""The unmodified qdrant-client drives the server; neighbours are compared with numpy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.api.clusters import clustered, nearest, scores
from tests.api.server_process import ServerProcess

COUNT, DIM = 600, 16
VECTORS = clustered(COUNT, DIM, seed=3)
QUERIES = clustered(8, DIM, seed=4)
SECTIONS = ("news", "sport", "arts")


def payload(row: int) -> dict[str, Any]:
    """What row number `row` says of itself."""
    return {
        "row": row,
        "section": SECTIONS[row % 3],
        "price": row / 10,
        "sold": row % 2 == 0,
        "deep": {"tag": [row % 5]},
    }


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[QdrantClient]:
    """It checks the server's version when it is made, and warnings are errors here."""
    made = QdrantClient(url=server.url, timeout=30, cloud_inference=True)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["Cosine", "Dot", "Euclid", "Manhattan"])
def filled(client: QdrantClient, request: pytest.FixtureRequest) -> str:
    """A collection of each metric with all points; its name is the metric."""
    distance: str = request.param
    client.create_collection(
        distance, vectors_config=models.VectorParams(size=DIM, distance=models.Distance(distance), on_disk=True)
    )
    points = [models.PointStruct(id=row, vector=VECTORS[row].tolist(), payload=payload(row)) for row in range(COUNT)]
    client.upload_points(distance, points, batch_size=100, wait=True)
    return distance


def found_rows(hits: models.QueryResponse) -> list[int]:
    """The ids, which are rows."""
    return [int(point.id) for point in hits.points]


def test_neighbours_and_scores_are_those_of_numpy(client: QdrantClient, filled: str) -> None:
    for query in QUERIES:
        hits = client.query_points(filled, query.tolist(), limit=20)
        expected = nearest(query, VECTORS, filled)[:20]
        assert found_rows(hits) == expected
        np.testing.assert_allclose(
            [point.score for point in hits.points], scores(query, VECTORS[expected], filled), rtol=1e-4, atol=1e-5
        )


def test_a_page_of_hits_goes_on_where_the_last_one_ended(client: QdrantClient, filled: str) -> None:
    expected = nearest(QUERIES[0], VECTORS, filled)
    pages = [found_rows(client.query_points(filled, QUERIES[0].tolist(), limit=7, offset=at)) for at in (0, 7, 595)]
    assert pages == [expected[:7], expected[7:14], expected[595:]]


def test_a_score_threshold_is_a_distance_where_the_metric_is_one(client: QdrantClient, filled: str) -> None:
    every = scores(QUERIES[1], VECTORS, filled)
    order = nearest(QUERIES[1], VECTORS, filled)
    between = float((every[order[4]] + every[order[5]]) / 2)
    hits = client.query_points(filled, QUERIES[1].tolist(), limit=20, score_threshold=between)
    assert found_rows(hits) == order[:5]


def test_a_query_by_id_leaves_that_point_out(client: QdrantClient, filled: str) -> None:
    expected = [row for row in nearest(VECTORS[17], VECTORS, filled) if row != 17][:10]
    assert found_rows(client.query_points(filled, 17, limit=10)) == expected


def test_average_of_examples(client: QdrantClient, filled: str) -> None:
    stored = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True) if filled == "Cosine" else VECTORS
    target = 2 * stored[[1, 2]].mean(axis=0) - stored[5]
    expected = [row for row in nearest(target, stored, filled) if row not in (1, 2, 5)][:10]
    recommend = models.RecommendInput(positive=[1, 2], negative=[5], strategy=models.RecommendStrategy.AVERAGE_VECTOR)
    hits = client.query_points(filled, models.RecommendQuery(recommend=recommend), limit=10)
    assert found_rows(hits) == expected


CONDITION = models.FieldCondition
FILTERS: list[tuple[models.Filter, Callable[[dict[str, Any]], bool]]] = [
    (
        models.Filter(must=[CONDITION(key="section", match=models.MatchValue(value="arts"))]),
        lambda p: p["section"] == "arts",
    ),
    (models.Filter(must=CONDITION(key="sold", match=models.MatchValue(value=True))), lambda p: p["sold"]),
    (
        models.Filter(must_not=[CONDITION(key="section", match=models.MatchAny(any=["arts", "news"]))]),
        lambda p: p["section"] == "sport",
    ),
    (models.Filter(must=[CONDITION(key="price", range=models.Range(gte=5, lt=9.5))]), lambda p: 5 <= p["price"] < 9.5),
    (models.Filter(must=[models.HasIdCondition(has_id=[3, 5, 9])]), lambda p: p["row"] in (3, 5, 9)),
    (
        models.Filter(
            should=[
                CONDITION(key="deep.tag", match=models.MatchValue(value=2)),
                models.Filter(
                    must=[CONDITION(key="sold", match=models.MatchValue(value=False))],
                    must_not=[CONDITION(key="price", range=models.Range(gt=1))],
                ),
            ]
        ),
        lambda p: p["deep"]["tag"] == [2] or (not p["sold"] and p["price"] <= 1),
    ),
    (models.Filter(must=[CONDITION(key="section", match=models.MatchAny(any=[]))]), lambda p: False),
]


@pytest.mark.parametrize("case", range(len(FILTERS)))
def test_filters(client: QdrantClient, filled: str, case: int) -> None:
    where, passes = FILTERS[case]
    rows = {row for row in range(COUNT) if passes(payload(row))}
    expected = [row for row in nearest(QUERIES[2], VECTORS, filled) if row in rows]
    assert found_rows(client.query_points(filled, QUERIES[2].tolist(), query_filter=where, limit=10)) == expected[:10]
    assert client.count(filled, count_filter=where).count == len(rows)
    page, _ = client.scroll(filled, scroll_filter=where, limit=COUNT)
    assert [point.id for point in page] == sorted(rows)


def test_payload_and_vectors_as_asked_for(client: QdrantClient, filled: str) -> None:
    whole = client.query_points(filled, 4, limit=1, with_payload=True, with_vectors=True).points[0]
    assert whole.payload == payload(int(whole.id))
    stored = VECTORS[int(whole.id)]
    stored = stored / np.linalg.norm(stored) if filled == "Cosine" else stored
    np.testing.assert_allclose(np.asarray(whole.vector), stored, rtol=1e-6)
    some = client.query_points(filled, 4, limit=1, with_payload=["row", "deep.tag"]).points[0]
    assert some.payload == {"row": some.id, "deep": payload(int(some.id))["deep"]}
    less = client.query_points(filled, 4, limit=1, with_payload=models.PayloadSelectorExclude(exclude=["deep", "row"]))
    assert set(less.points[0].payload or {}) == {"section", "price", "sold"}
    none = client.query_points(filled, 4, limit=1, with_payload=False).points[0]
    assert none.payload is None
    assert none.vector is None


def test_a_batch_answers_as_its_members_do(client: QdrantClient, filled: str) -> None:
    where = FILTERS[0][0]
    requests = [models.QueryRequest(query=query.tolist(), limit=5) for query in QUERIES]
    requests.append(models.QueryRequest(query=3, limit=4, filter=where, with_payload=True))
    together = client.query_batch_points(filled, requests)
    alone = [client.query_points(filled, query.tolist(), limit=5) for query in QUERIES]
    alone.append(client.query_points(filled, 3, limit=4, query_filter=where))
    assert [found_rows(hits) for hits in together] == [found_rows(hits) for hits in alone]


def test_a_batch_keeps_filters_for_true_and_for_1_apart(client: QdrantClient, filled: str) -> None:
    sold, one = (
        models.QueryRequest(
            query=QUERIES[0].tolist(),
            limit=5,
            filter=models.Filter(must=[CONDITION(key="sold", match=models.MatchValue(value=value))]),
        )
        for value in (True, 1)
    )
    assert [len(hits.points) for hits in client.query_batch_points(filled, [sold, one])] == [5, 0]


def test_scrolling_sees_every_point_once(client: QdrantClient, filled: str) -> None:
    seen: list[Any] = []
    offset: Any = None
    while True:
        page, offset = client.scroll(filled, limit=70, offset=offset, with_payload=False)
        seen += [point.id for point in page]
        if offset is None:
            break
    assert seen == list(range(COUNT))


def test_the_life_of_a_collection(client: QdrantClient) -> None:
    name = f"life-{uuid4().hex[:8]}"
    assert not client.collection_exists(name)
    assert client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    assert client.collection_exists(name)
    assert name in [one.name for one in client.get_collections().collections]
    written = client.upsert(
        name, [models.PointStruct(id=one, vector=[1.0, 2.0]) for one in (7, "7", "b", "aé")], wait=True
    )
    assert written.status == models.UpdateStatus.COMPLETED
    assert written.operation_id == 4
    info = client.get_collection(name)
    assert info.points_count == 4
    assert info.config.params.vectors == models.VectorParams(size=2, distance=models.Distance.DOT)
    assert [point.id for point in client.retrieve(name, ["b", 7, "none"])] == ["b", 7]
    client.upsert(name, [models.PointStruct(id="b", vector=[5.0, 5.0], payload={"new": None})])
    assert client.retrieve(name, ["b"], with_vectors=True)[0].vector == [5.0, 5.0]
    client.delete(name, ["b", "7", "none"])
    assert client.count(name).count == 2
    assert [point.id for point in client.scroll(name)[0]] == [7, "aé"]
    assert client.delete_collection(name)
    assert not client.collection_exists(name)
    with pytest.raises(UnexpectedResponse, match="does not exist"):
        client.count(name)


def test_named_vectors_have_their_own_size_and_metric(client: QdrantClient) -> None:
    client.create_collection(
        "named",
        vectors_config={
            "a": models.VectorParams(size=2, distance=models.Distance.DOT),
            "b": models.VectorParams(size=3, distance=models.Distance.EUCLID),
        },
    )
    client.upsert(
        "named",
        [
            models.PointStruct(id=1, vector={"a": [1.0, 0.0], "b": [1.0, 1.0, 1.0]}),
            models.PointStruct(id=2, vector={"b": [2.0, 2.0, 2.0]}),
        ],
    )
    assert found_rows(client.query_points("named", [1.0, 1.0], using="a")) == [1]
    near = client.query_points("named", [2.0, 2.0, 3.0], using="b", with_vectors=["b"])
    assert found_rows(near) == [2, 1]
    assert near.points[0].score == pytest.approx(1.0)
    assert near.points[1].vector == {"b": [1.0, 1.0, 1.0]}


def test_texts_are_embedded_by_the_collections_model(client: QdrantClient, http: httpx.Client) -> None:
    body = {"vectors": {"size": 256, "distance": "Cosine"}, "vss": {"model": "hashing", "text_field": "text"}}
    assert http.put("/collections/texts", json=body).status_code == 200
    texts = ["compress a folder into an archive", "wait for several threads", "parse a date", "open a socket"]
    client.upsert(
        "texts",
        [
            models.PointStruct(id=row, vector=models.Document(text=text, model="hashing"), payload={"text": text})
            for row, text in enumerate(texts[:2])
        ]
        # A vector that is left out is made of the text field.
        + [models.PointStruct(id=row, vector={}, payload={"text": texts[row]}) for row in (2, 3)],
    )
    for row, text in enumerate(texts):
        hit = client.query_points("texts", models.Document(text=text, model="hashing"), limit=1).points[0]
        assert hit.id == row
        assert hit.score == pytest.approx(1.0, abs=1e-5)
    raw = http.post("/collections/texts/points/query", json={"query": {"text": "several threads"}, "limit": 1})
    assert raw.json()["result"]["points"][0]["id"] == 1


def test_the_answer_says_its_generation_and_whether_it_is_complete(http: httpx.Client, filled: str) -> None:
    few = {"query": 1, "filter": {"must": [{"has_id": [2, 3]}]}, "limit": 5, "vss": {"explain": True}}
    answer = http.post(f"/collections/{filled}/points/query", json=few)
    said = answer.json()["vss"]
    assert (said["generation"], said["complete"], said["reason"]) == (0, False, "only 2 match")
    (plan,) = said["explain"]["plans"]
    assert (plan["segment"], plan["method"], plan["effort"]) == (None, "scan", None)
    assert (plan["matching"], plan["selectivity"]) == (2, 2 / plan["rows"])
    assert (plan["filter_known"], plan["payloads_read"]) == (False, plan["rows"])
    assert 0 < plan["filter_ms"] < plan["milliseconds"] <= said["explain"]["search_ms"]
    assert answer.headers["vss-complete"] == "false"
    assert answer.headers["vss-reason"] == "only 2 match"
    enough = http.post(f"/collections/{filled}/points/query", json={"query": 1, "limit": 5})
    assert enough.headers["vss-complete"] == "true"
    assert "vss-reason" not in enough.headers


def test_the_async_client(server: ServerProcess, filled: str) -> None:
    async def ask() -> list[list[int]]:
        client = AsyncQdrantClient(url=server.url, check_compatibility=False, timeout=30)
        try:
            asked = (client.query_points(filled, query.tolist(), limit=10) for query in QUERIES)
            return [found_rows(hits) for hits in await asyncio.gather(*asked)]
        finally:
            await client.close()

    assert asyncio.run(ask()) == [nearest(query, VECTORS, filled)[:10] for query in QUERIES]
