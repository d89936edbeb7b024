"""Bad input: every refusal names the field, what was got and what was wanted, and nothing of the request is applied."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.errors import STATUS
from api.middleware.errors import Errors
from api.middleware.limits import Limits
from api.middleware.request_id import RequestId
from api.wire.base import decode
from api.wire.query import QueryWire, read_query
from api.wire.upserts import UpsertWire, read_upsert
from vss.errors import Code, VssError
from vss.schema import Schema, VectorSchema

C = "/collections/c"
GOOD = {"id": 1, "vector": [1.0, 0.0]}


@pytest.fixture(scope="module", autouse=True)
def collection(http: httpx.Client) -> None:
    """`c` (2 numbers, Cosine) with one point, and `t` with the `hashing` model."""
    assert http.put(C, json={"vectors": {"size": 2, "distance": "Cosine"}}).status_code == 200
    assert http.put(C + "/points", json={"points": [{"id": 0, "vector": [0.0, 1.0]}]}).status_code == 200
    assert http.put("/collections/t", json={"vss": {"model": "hashing"}}).status_code == 200


def points(*bad: Any) -> str:
    """An upsert whose first point is good."""
    return json.dumps({"points": [GOOD, *bad]})


def one(**members: Any) -> str:
    """An upsert whose second point is the one that is given, on top of a good one."""
    return points({"id": 2, "vector": [1.0, 0.0]} | members)


UPSERTS = [
    (one(vector=[1.0]), "points[1].vector", "got a vector of 1 numbers, wanted 2"),
    (one(vector=[0.0, 0.0]), "points[1].vector", "zero vector"),
    (one(vector=[1e30, 0.0]), "points[1].vector", "1e+30 at position 0"),
    (one(vector=[1.0, float("nan")]), "points[1].vector[1]", "NaN"),
    (one(vector=[1.0, float("inf")]), "points[1].vector[1]", "Infinity"),
    ('{"points":[{"id":1,"vector":[1,0]},{"id":2,"vector":[1,1e400]}]}', "points[1].vector[1]", "out of range"),
    (one(vector=[1.0, None]), "points[1].vector[1]", "got null, wanted float"),
    (one(vector=[1.0, "2"]), "points[1].vector[1]", "got str, wanted float"),
    (one(vector=[[1.0, 0.0]]), "points[1].vector[0]", "got array, wanted float"),
    (one(vector={"other": [1.0, 0.0]}), "points[1].vector.other", "got vector name 'other', wanted one of ''"),
    (one(vector={"text": "hello"}), "points[1].vector", "has no model"),
    (one(id=""), "points[1].id", "empty id"),
    (one(id="x" * 600), "points[1].id", "600 bytes, wanted at most 512"),
    (one(id=1 << 64), "points[1].id", "64 bits"),
    (one(id=1.5), "points[1].id", "got float"),
    (one(id=True), "points[1].id", "got bool"),
    (one(payload=[1]), "points[1].payload", "got a payload of type list, wanted an object"),
    (one(payload={"x": "y" * (1 << 20)}), "points[1].payload", "wanted at most 1048576"),
    (one(extra=1), "points[1].extra", "does not exist"),
    (points({"vector": [1.0, 0.0]}), "points[1].id", "got nothing"),
    ('{"points":[{"id":1,"vector":[1,0],"payload":{"a":' + "[" * 5000 + "]" * 5000 + "}}]}", "body", "nested"),
    (points() + "]", "body", "not JSON"),
    ("", "body", "not JSON"),
    ("[]", "body", "got array, wanted object"),
    ("{}", "points", "exactly one of points, batch"),
    (json.dumps({"points": [GOOD], "shard_key": "a"}), "shard_key", "not supported"),
    (json.dumps({"points": [GOOD], "update_mode": "replace"}), "update_mode", "got 'replace'"),
    (json.dumps({"points": [GOOD], "vss": {"fingerprint": "f"}}), "vss.fingerprint", "got fingerprint 'f'"),
]

Q = C + "/points/query"
QUERIES: list[tuple[str, Any, str, str]] = [
    (Q, {"query": [1.0, 2.0, 3.0]}, "query", "got a vector of 3 numbers, wanted 2"),
    (Q, {"query": [0.0, 0.0]}, "query", "zero vector"),
    (Q, {}, "query", "got nothing"),
    (Q, {"query": {}}, "query", "exactly one of nearest, recommend, text"),
    (Q, {"query": {"nearest": [1, 0], "text": "x"}}, "query", "got nearest and text"),
    (Q, {"query": {"fusion": "rrf"}}, "query.fusion", "not supported"),
    (Q, {"query": {"nearest": [1, 0], "mmr": {"diversity": 0.5}}}, "query.mmr", "not supported"),
    (Q, {"query": {"indices": [1], "values": [1.0]}}, "query.indices", "not supported"),
    (Q, {"query": {"text": "x"}}, "query", "has no model"),
    (Q, {"query": {"recommend": {"positive": []}}}, "query.recommend.positive", "at least one"),
    (
        Q,
        {"query": {"recommend": {"positive": [0], "strategy": "best"}}},
        "query.recommend.strategy",
        "'best'",
    ),
    (Q, {"query": [1, 0], "using": "x"}, "using", "got vector name 'x'"),
    (Q, {"query": [1, 0], "limit": 0}, "limit", "got 0, wanted 1 to 10000"),
    (Q, {"query": [1, 0], "limit": 10_001}, "limit", "got 10001"),
    (Q, {"query": [1, 0], "offset": -1}, "offset", "got -1"),
    (Q, {"query": [1, 0], "prefetch": [{"limit": 3}]}, "prefetch", "not supported"),
    (Q, {"query": 0, "lookup_from": {"collection": "x"}}, "lookup_from.collection", "does not exist"),
    (Q, {"query": 0, "lookup_from": {"collection": "t"}}, "lookup_from", "256 numbers under Cosine, wanted 2"),
    (Q, {"query": {"recommend": {"positive": [[1.0]]}}}, "query.recommend.positive[0]", "1 numbers"),
    (Q, {"query": {"recommend": {"positive": [0, 7]}}}, "query.recommend.positive[1]", "does not exist"),
    (Q, {"query": {"recommend": {"negative": [0]}}}, "query.recommend.positive", "at least one"),
    (Q, {"query": {"recommend": {"positive": [{"text": "x"}]}}}, "query.recommend.positive[0]", "not supported"),
    (Q, {"query": [1, 0], "params": {"indexed_only": True}}, "params.indexed_only", "not supported"),
    (Q, {"query": [1, 0], "params": {"quantization": {"rescore": True}}}, "params.quantization", "not supported"),
    (Q, {"query": [1, 0], "params": {"hnsw_ef": 0}}, "params.hnsw_ef", "got 0"),
    (Q, {"query": [1, 0], "vss": {"recall": 1.5}}, "vss.recall", "got 1.5"),
    (Q, {"query": [1, 0], "vss": {"fingerprint": "x"}}, "vss.fingerprint", "got fingerprint 'x'"),
    (Q, {"query": [1, 0], "with_payload": {"include": ["a"], "exclude": ["b"]}}, "with_payload", "include and exclude"),
    (Q, {"query": [1, 0], "with_vector": ["x"]}, "using", "got vector name 'x'"),
    (Q, {"query": [1, 0], "surprise": 1}, "surprise", "does not exist"),
    (Q + "/batch", {"searches": [{"query": [1, 0]}, {"query": [1]}]}, "searches[1].query", "1 numbers"),
    (Q + "/batch", {"searches": [{"query": [1, 0], "limit": 0}]}, "searches[0].limit", "got 0"),
    ("/collections/t/points/query", {"query": {"text": "x", "model": "other"}}, "query.model", "got model 'other'"),
    (C + "/points/scroll", {"order_by": "a..b"}, "order_by", "wanted one like"),
    (C + "/points/scroll", {"order_by": {"key": "a", "direction": "up"}}, "order_by.direction", "'up'"),
    (
        C + "/points/scroll",
        {"order_by": {"key": "a", "start_from": "x"}},
        "order_by.start_from",
        "wanted a number or a moment",
    ),
    (C + "/points/scroll", {"order_by": "a", "offset": 1}, "offset", "beside order_by"),
    (C + "/points/scroll", {"limit": 10_001}, "limit", "got 10001"),
    (C + "/points/scroll", {"offset": ""}, "offset", "empty id"),
    (C + "/points/count", {"shard_key": "a"}, "shard_key", "not supported"),
    (C + "/points/delete", {"points": [0], "filter": {"must": []}}, "points", "got points and filter"),
    (C + "/points/delete", {"points": [1, ""]}, "points[1]", "empty id"),
    (C + "/points/delete", {}, "points", "exactly one of points, filter"),
    (C + "/points", {"ids": [1, True]}, "ids[1]", "got bool"),
    (C + "/recommend", {"positive": [0], "candidates": 0}, "candidates", "got 0"),
    (C + "/recommend", {"positive": [0], "diversity": 2}, "diversity", "got 2"),
    (
        C + "/recommend",
        {"positive": [0], "rerank": {"model": "passthrough", "on_error": "x"}},
        "rerank.on_error",
        "'x'",
    ),
    (C + "/recommend", {"positive": [0], "rerank": {}}, "rerank.model", "got nothing"),
    (C + "/recommend", {"positive": [0], "query": "x"}, "query", "not made by a model"),
    (C + "/recommend", {}, "positive", "at least one"),
    (C + "/recommend", {"positive": ["gone"]}, "positive", "no liked item that exists"),
]

NESTED: dict[str, Any] = {"has_id": [1]}
for _ in range(16):
    NESTED = {"must": [NESTED]}
MANY = list(range(10_001))

FILTERS = [
    ({"must": [{"key": "a"}]}, "filter.must[0]", "exactly one of match, range, values_count, is_empty, is_null"),
    ({"must": [{"key": "a", "match": {}}]}, "filter.must[0].match", "exactly one of value, any, except, text"),
    ({"must": [{"key": "a", "match": {"any": MANY}}]}, "filter.must[0].match.any", "10001 values, wanted at most"),
    ({"must": [{"key": "a", "match": {"except": MANY}}]}, "filter.must[0].match.except", "10001 values"),
    ({"must": [{"key": "a", "match": {"any": [1, 0.5]}}]}, "filter.must[0].match.any[1]", "got float"),
    ({"must": [{"key": "a", "match": {"text": "x" * 10_001}}]}, "filter.must[0].match.text", "10001 characters"),
    ({"must": [{"key": "a", "match": {"value": 1}, "range": {"lt": 1}}]}, "filter.must[0]", "got match and range"),
    ({"must": [{"key": "a", "range": {}}]}, "filter.must[0].range", "no bound"),
    ({"must": [{"key": "a", "range": {"gte": "soon"}}]}, "filter.must[0].range.gte", "got 'soon', wanted a number or"),
    ({"must": [{"key": "a", "range": {"lt": "2024-02-30"}}]}, "filter.must[0].range.lt", "got '2024-02-30'"),
    ({"must": [{"key": "a", "range": {"gt": 1, "lt": "2024-01-01"}}]}, "filter.must[0].range.gt", "the number 1"),
    ({"must": [{"key": "a", "geo_radius": {"radius": 1}}]}, "filter.must[0].geo_radius", "not supported"),
    ({"must": [{"key": "a", "geo_polygon": {}}]}, "filter.must[0].geo_polygon", "not supported"),
    ({"must": [{"key": "a", "geo_bounding_box": {}}]}, "filter.must[0].geo_bounding_box", "not supported"),
    ({"must": [{"slice": {"total": 2, "index": 0}}]}, "filter.must[0].slice", "not supported"),
    ({"must": [{"key": "a", "values_count": {}}]}, "filter.must[0].values_count", "no bound"),
    ({"must": [{"key": "a", "values_count": {"gt": 0.5}}]}, "filter.must[0].values_count.gt", "got float"),
    ({"must": [{"key": "a", "is_empty": {"key": "a"}}]}, "filter.must[0].is_empty", "wanted true or false"),
    ({"must": [{"is_empty": True}]}, "filter.must[0].is_empty", "got true without a key"),
    ({"must": [{"is_null": {}}]}, "filter.must[0].is_null.key", "got nothing"),
    ({"must": [{"nested": {"key": "a"}}]}, "filter.must[0].nested.filter", "got nothing"),
    (
        {"must": [{"nested": {"key": "a", "filter": {"must": {"key": ""}}}}]},
        "filter.must[0].nested.filter.must.key",
        "got the path ''",
    ),
    ({"must": [{"key": "a..b", "match": {"value": 1}}]}, "filter.must[0].key", "got the path 'a..b'"),
    ({"must": [{"key": "a[x]", "match": {"value": 1}}]}, "filter.must[0].key", "got the path 'a[x]'"),
    ({"must": [{"key": "[]", "match": {"value": 1}}]}, "filter.must[0].key", "got the path '[]'"),
    ({"must": [{"is_null": {"key": "a" * 513}}]}, "filter.must[0].is_null.key", "513 characters, wanted at most 512"),
    ({"min_should": {"conditions": [], "min_count": 0}}, "filter.min_should.min_count", "got 0, wanted at least 1"),
    ({"min_should": {"conditions": [{}], "min_count": 1}}, "filter.min_should.conditions[0]", "wanted exactly one"),
    ({"must": [{"surprise": 1}]}, "filter.must[0].surprise", "does not exist"),
    ({"must": [{}]}, "filter.must[0]", "wanted exactly one"),
    ({"must": [{"match": {"value": 1}}]}, "filter.must[0].key", "got a match without a key"),
    ({"must": [{"has_id": [1], "has_vector": ""}]}, "filter.must[0]", "got has_id and has_vector"),
    ({"must": [{"has_id": [1], "must": []}]}, "filter.must[0]", "got has_id beside a filter"),
    ({"must": [{"key": "a", "has_id": [1]}]}, "filter.must[0]", "got has_id beside a key"),
    ({"must": [{"has_id": MANY}]}, "filter.must[0].has_id", "got 10001 ids"),
    ({"must": [{"has_id": [1]}] * 1_001}, "filter.must[1000]", "more than 1000 conditions"),
    ({"must": [NESTED]}, "filter" + ".must[0]" * 16, "nested more than 16 deep"),
    ({"should": {"must_not": {"has_id": [""]}}}, "filter.should.must_not.has_id[0]", "empty id"),
    ({"all": []}, "filter.all", "does not exist"),
]
QUERIES += [(Q, {"query": [1, 0], "filter": where}, field, said) for where, field, said in FILTERS]

CREATES = [
    ({}, "vectors", "got no vectors"),
    ({"vectors": {"size": 0, "distance": "Dot"}}, "vectors.size", "got size 0"),
    ({"vectors": {"size": 70_000, "distance": "Dot"}}, "vectors.size", "got size 70000"),
    ({"vectors": {"distance": "Dot"}}, "vectors.size", "got nothing"),
    ({"vectors": {"size": 3}}, "vectors.distance", "wanted one of Cosine"),
    ({"vectors": {"size": 3, "distance": "Hamming"}}, "vectors.distance", "got 'Hamming', wanted one of"),
    ({"vectors": {"a": {"size": 3, "distance": "Dot", "on_disk": 3}}}, "vectors.a.on_disk", "got int, wanted bool"),
    ({"vectors": {"size": 3, "distance": "Dot", "datatype": "float16"}}, "vectors.datatype", "not supported"),
    (
        {"vectors": {"size": 3, "distance": "Dot", "multivector_config": {}}},
        "vectors.multivector_config",
        "not supported",
    ),
    ({"vectors": {"size": 3, "distance": "Dot"}, "sparse_vectors": {"s": {}}}, "sparse_vectors", "not supported"),
    ({"vectors": {"size": 3, "distance": "Dot"}, "hnsw_config": {"m": -1}}, "hnsw_config.m", "got -1"),
    ({"vectors": {"size": 3, "distance": "Dot"}, "hnsw_config": {"payload_m": 4}}, "hnsw_config.payload_m", "not supp"),
    ({"vectors": {"size": 3, "distance": "Dot", "hnsw_config": {"m": 4}}}, "vectors.hnsw_config", "share"),
    ({"vectors": {"x" * 300: {"size": 3, "distance": "Dot"}}}, "vectors", "wanted 1 to 255"),
    ({"vectors": {"size": 3, "distance": "Dot"}, "shard_number": 2}, "shard_number", "not supported"),
    (
        {"vectors": {"size": 3, "distance": "Dot"}, "quantization_config": {"binary": {}}},
        "quantization_config.binary",
        "not supported",
    ),
    ({"vectors": {"size": 3, "distance": "Dot"}, "vss": {"model": "hashing"}}, "vectors.size", "makes 256"),
    ({"vss": {"model": "gone"}}, "vss.model", "there is no model 'gone'"),
    ({"vss": {"model": "hashing", "fingerprint": "f"}}, "vss.fingerprint", "got fingerprint 'f'"),
    ({"vectors": {"size": 3, "distance": "Dot"}, "vss": {"text_field": "t"}}, "vss.model", "wanted the model too"),
    ({"vectors": {"size": 3, "distance": "Dot"}, "vss": {"index": {"kind": "tree"}}}, "vss.index.kind", "'tree'"),
    ({"vectors": {"size": 3, "distance": "Dot"}, "surprise": 1}, "surprise", "does not exist"),
]


def assert_refused(answer: httpx.Response, field: str, said: str) -> None:
    """The error's shape, its field and its words."""
    body = answer.json()
    assert 400 <= answer.status_code < 500, body
    assert set(body) == {"status", "time", "vss"}
    assert body["vss"]["field"] == field
    assert said in body["status"]["error"]
    assert answer.status_code == STATUS[Code(body["vss"]["code"])]


@pytest.mark.parametrize(("body", "field", "said"), UPSERTS, ids=[f"{case[1]}: {case[2][:30]}" for case in UPSERTS])
def test_a_bad_upsert_writes_nothing(http: httpx.Client, body: str, field: str, said: str) -> None:
    assert_refused(http.put(C + "/points?wait=true", content=body), field, said)
    points_now = http.post(C + "/points/scroll", json={}).json()["result"]["points"]
    assert [point["id"] for point in points_now] == [0]


@pytest.mark.parametrize(
    ("path", "body", "field", "said"), QUERIES, ids=[f"{case[0][13:]} {case[2]}: {case[3][:20]}" for case in QUERIES]
)
def test_bad_reads_and_deletes(http: httpx.Client, path: str, body: Any, field: str, said: str) -> None:
    assert_refused(http.post(path, json=body), field, said)


@pytest.mark.parametrize(("body", "field", "said"), CREATES, ids=[f"{case[1]}: {case[2][:30]}" for case in CREATES])
def test_a_bad_collection_is_not_made(http: httpx.Client, body: Any, field: str, said: str) -> None:
    assert_refused(http.put("/collections/bad", json=body), field, said)
    assert http.get("/collections/bad/exists").json()["result"] == {"exists": False}


@pytest.mark.parametrize("name", ["%2e%2e%2fx", "%2e", "%2e%2e", "a%0ab", "%20a", "x" * 300, "%00", "a%3fb"])
def test_bad_names(http: httpx.Client, name: str) -> None:
    answer = http.put(f"/collections/{name}", json={"vectors": {"size": 2, "distance": "Dot"}})
    # A slash makes it another path, which does not exist.
    assert answer.status_code == (404 if "%2f" in name else 400)
    assert answer.json()["vss"]["field"] == (None if "%2f" in name else "collection")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/collections/none", 404, "not_found"),
        ("POST", "/collections/none/points/query", 404, "not_found"),
        ("GET", C + "/points/99", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("PATCH", "/collections", 405, "method_not_allowed"),
        ("POST", C + "/points/search", 400, "unsupported"),
        ("GET", "/cluster", 400, "unsupported"),
        ("PUT", C, 409, "already_exists"),
    ],
)
def test_statuses(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    bodies = {"PUT": {"vectors": {"size": 2, "distance": "Cosine"}}, "POST": {"query": [1, 0]}}
    answer = http.request(method, path, json=bodies.get(method))
    assert answer.status_code == status
    assert answer.json()["vss"]["code"] == code


def test_an_unknown_query_parameter_is_refused(http: httpx.Client) -> None:
    assert_refused(http.put(C + "/points?await=true", content=points()), "await", "wait, ordering, timeout")
    assert_refused(http.put(C + "/points?wait=maybe", content=points()), "wait", "wanted true or false")
    assert_refused(http.post(Q + "?timeout=-1", json={"query": [1, 0]}), "timeout", "seconds")


def test_nulls_and_defaults_of_options_we_do_not_have_pass(http: httpx.Client) -> None:
    vectors = {"size": 2, "distance": "Dot", "on_disk": False, "quantization_config": None, "datatype": "float32"}
    body = {
        "vectors": vectors,
        "shard_number": 1,
        "replication_factor": 1,
        "on_disk_payload": True,
        "hnsw_config": None,
        "sparse_vectors": None,
    }
    assert http.put("/collections/defaults", json=body).status_code == 200
    query = {
        "query": [1, 0],
        "prefetch": [],
        "params": {"indexed_only": False, "quantization": None},
        "shard_key": None,
    }
    assert http.post("/collections/defaults/points/query", json=query).status_code == 200


def test_too_much_is_refused_with_413(http: httpx.Client) -> None:
    many = {"points": [{"id": one, "vector": [1, 0]} for one in range(10_001)]}
    answer = http.put(C + "/points", json=many)
    assert answer.status_code == 413
    assert_refused(answer, "points", "got 10001 points, wanted at most 10000")
    huge = http.put(C + "/points", content=b" " * ((32 << 20) + 1))
    assert huge.status_code == 413
    # Chunked: the length is not known before.
    streamed = http.put(C + "/points", content=(b" " * (1 << 20) for _ in range(33)))
    assert streamed.status_code == 413
    assert http.post(C + "/points/count", json={}).json()["result"]["count"] == 1


def test_a_request_id_is_given_or_kept(http: httpx.Client) -> None:
    assert http.get("/", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = {http.get("/", headers={"X-Request-Id": bad}).headers["x-request-id"] for bad in ("", "a b", "x" * 200)}
    assert len(made) == 3
    assert all(len(one) == 16 for one in made)


def test_a_fault_of_ours_is_an_id_in_the_log_and_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("/secret/path")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(RequestId(Errors(broken)))
        async with httpx.AsyncClient(transport=transport, base_url="http://vss") as client:
            return await client.get("/collections", headers={"X-Request-Id": "broken-1"})

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.json()["vss"]["code"] == "internal"
    assert "broken-1" in answer.json()["status"]["error"]
    assert "secret" not in answer.text
    assert "broken-1" in caplog.text
    assert "/secret/path" in caplog.text


def test_overload_is_refused_at_the_door() -> None:
    async def ask() -> list[httpx.Response]:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            entered.set()
            await leave.wait()
            await PlainTextResponse("done")(scope, receive, send)

        app = RequestId(Errors(Limits(slow, max_body_bytes=10, max_in_flight=1)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vss") as client:
            first = asyncio.create_task(client.get("/collections"))
            await entered.wait()
            second = await client.get("/collections")
            leave.set()
            return [await first, second, await client.get("/collections")]

    first, second, third = asyncio.run(ask())
    assert [first.status_code, second.status_code, third.status_code] == [200, 429, 200]
    assert int(second.headers["retry-after"]) >= 1


def test_a_number_that_float32_cannot_hold_is_refused_in_silence() -> None:
    """NumPy warns of the overflow, and a warning in the log for each bad request is noise (here it is an error)."""
    schema = Schema(vectors={"": VectorSchema(dim=2)})
    upsert = decode(one(vector=[1e300, 0.0]).encode(), UpsertWire)
    with pytest.raises(VssError, match="wanted a finite number") as error:
        read_upsert(upsert, schema)
    assert error.value.field == "points[1].vector"
    with pytest.raises(VssError, match="wanted a finite number"):
        read_query(decode(b'{"query": [1e300, 0]}', QueryWire), schema)
