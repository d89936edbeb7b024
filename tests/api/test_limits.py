"""Bad vectors and ids on every entry, and every limit: refused with the place, and nothing is applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.wire.aliases import MAX_ACTIONS
from api.wire.collections import MAX_VECTORS
from api.wire.filters import MAX_CONDITIONS, MAX_VALUES
from api.wire.filters import MAX_DEPTH as MAX_FILTER_DEPTH
from api.wire.ids import MAX_IDS
from api.wire.pages import MAX_LIMIT, MAX_OFFSET
from api.wire.payloads import MAX_DEPTH, MAX_PATH
from api.wire.query import MAX_EFFORT, MAX_EXAMPLES, MAX_SEARCHES
from api.wire.upserts import MAX_POINTS
from api.wire.writes import MAX_KEYS, MAX_OPERATIONS
from vss.points import MAX_ID_BYTES, MAX_PAYLOAD_BYTES
from vss.vectors import MAX_DIM

C = "/collections/limits"
NAN, INF = float("nan"), float("inf")
ANY = [1.0, 1.0, 1.0]


@pytest.fixture(scope="module", autouse=True)
def collection(http: httpx.Client) -> None:
    """Two named vectors of 3 numbers, `a` under Cosine and `b` under Euclid, and one point."""
    vectors = {"a": {"size": 3, "distance": "Cosine"}, "b": {"size": 3, "distance": "Euclid"}}
    assert http.put(C, json={"vectors": vectors}).status_code == 200
    assert http.put(C + "/points", json={"points": [POINT]}).status_code == 200


POINT = {"id": 0, "vector": {"a": [0.0, 0.6, 0.8], "b": [1.0, 2.0, 3.0]}, "payload": {"kept": True}}
GOOD = {"id": 1, "vector": {"a": [1.0, 0.0, 0.0]}}

Entry = tuple[str, str, Callable[[Any, Any], Any], str, str]
"""Method, path, body of an id and a vector, and where the two stand in it."""

ENTRIES: dict[str, Entry] = {
    "list": (
        "PUT",
        "/points",
        lambda id_, vector: {"points": [GOOD, {"id": id_, "vector": {"a": vector}}]},
        "points[1].id",
        "points[1].vector.a",
    ),
    "columns": (
        "PUT",
        "/points",
        lambda id_, vector: {"batch": {"ids": [1, id_], "vectors": {"a": [[1, 0, 0], vector]}}},
        "batch.ids[1]",
        "batch.vectors.a[1]",
    ),
    "batch": (
        "POST",
        "/points/batch",
        lambda id_, vector: {
            "operations": [
                {"clear_payload": {"points": [0]}},
                {"upsert": {"points": [GOOD, {"id": id_, "vector": {"a": vector}}]}},
            ]
        },
        "operations[1].upsert.points[1].id",
        "operations[1].upsert.points[1].vector.a",
    ),
    "batch of columns": (
        "POST",
        "/points/batch",
        lambda id_, vector: {"operations": [{"upsert": {"batch": {"ids": [id_], "vectors": {"a": [vector]}}}}]},
        "operations[0].upsert.batch.ids[0]",
        "operations[0].upsert.batch.vectors.a[0]",
    ),
    "update vectors": (
        "PUT",
        "/points/vectors",
        lambda id_, vector: {"points": [{"id": id_, "vector": {"b": [0, 0, 0], "a": vector}}]},
        "points[0].id",
        "points[0].vector.a",
    ),
    "batch of vectors": (
        "POST",
        "/points/batch",
        lambda id_, vector: {"operations": [{"update_vectors": {"points": [{"id": id_, "vector": {"a": vector}}]}}]},
        "operations[0].update_vectors.points[0].id",
        "operations[0].update_vectors.points[0].vector.a",
    ),
}

QUERIES: dict[str, Entry] = {
    "query": ("POST", "/points/query", lambda _, vector: {"query": vector, "using": "a"}, "", "query"),
    "nearest": (
        "POST",
        "/points/query",
        lambda _, vector: {"query": {"nearest": vector}, "using": "a"},
        "",
        "query.nearest",
    ),
    "query by id": ("POST", "/points/query", lambda id_, _: {"query": id_, "using": "a"}, "query", ""),
    "batch of queries": (
        "POST",
        "/points/query/batch",
        lambda _, vector: {"searches": [{"query": 0, "using": "a"}, {"query": vector, "using": "a"}]},
        "",
        "searches[1].query",
    ),
}


def example(side: str) -> Entry:
    """An example of one side: an id, or a vector where the test is about one."""

    def body(id_: Any, vector: Any) -> Any:
        value = id_ if vector == ANY else vector
        return {"query": {"recommend": {"positive": [0], side: [value]}}, "using": "a"}

    return "POST", "/points/query", body, f"query.recommend.{side}[0]", f"query.recommend.{side}[0]"


QUERIES |= {side: example(side) for side in ("positive", "negative")}

BAD_VECTORS: list[tuple[Any, str]] = [
    ([NAN, 0.0, 1.0], "NaN or Infinity"),
    ([0.0, INF, 1.0], "NaN or Infinity"),
    ([0.0, 1.0, 1e30], "1e+30 at position 2"),
    ([0.0, 1.0, 1e300], "finite"),
    ([0.0, 0.0, 0.0], "zero vector"),
    ([1.0, 0.0], "2 numbers, wanted 3"),
    ([1.0] * 4, "4 numbers, wanted 3"),
    ([], "0 numbers, wanted 3"),
]
BAD_IDS: list[tuple[Any, str]] = [
    ("", "empty id"),
    ("é" * (MAX_ID_BYTES // 2 + 1), f"wanted at most {MAX_ID_BYTES}"),
    (1 << 64, "64 bits"),
    (-(1 << 64), "64 bits"),
]


def refused(http: httpx.Client, method: str, path: str, body: Any, field: str, said: str) -> None:
    """The error has its place and words, and the collection is as it was."""
    answer = http.request(method, C + path, content=json.dumps(body))
    shown = answer.json()
    assert 400 <= answer.status_code < 500, shown
    assert said in shown["status"]["error"]
    assert shown["vss"]["field"] == field
    (record,) = http.post(C + "/points/scroll", json={"with_vector": True}).json()["result"]["points"]
    assert record["payload"] == POINT["payload"]
    assert record["vector"]["b"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("vector", "said"), BAD_VECTORS, ids=[case[1] for case in BAD_VECTORS])
@pytest.mark.parametrize("entry", [name for name, one in (ENTRIES | QUERIES).items() if one[4]])
def test_a_bad_vector_on_every_entry(http: httpx.Client, entry: str, vector: Any, said: str) -> None:
    method, path, body, _, field = (ENTRIES | QUERIES)[entry]
    if said.startswith("NaN"):
        # These are found by the parser, which knows the very component.
        field += f"[{next(at for at, one in enumerate(vector) if one != one or one == INF)}]"
    refused(http, method, path, body(5, vector), field, said)


@pytest.mark.parametrize(("id_", "said"), BAD_IDS, ids=[case[1] for case in BAD_IDS])
@pytest.mark.parametrize("entry", [name for name, one in (ENTRIES | QUERIES).items() if one[3]])
def test_a_bad_id_on_every_entry(http: httpx.Client, entry: str, id_: Any, said: str) -> None:
    method, path, body, field, _ = (ENTRIES | QUERIES)[entry]
    refused(http, method, path, body(id_, ANY), field, said)


def nested(levels: int) -> dict[str, Any]:
    """An object of that many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def nested_filter(levels: int) -> dict[str, Any]:
    """A filter of that many levels."""
    value: dict[str, Any] = {"must": [{"has_id": [0]}]}
    for _ in range(levels - 1):
        value = {"must": [value]}
    return value


BIG = {"x": "y" * MAX_PAYLOAD_BYTES}
MANY = list(range(MAX_IDS + 1))
Q = {"query": [1.0, 0.0, 0.0], "using": "a"}
CONDITION = {"has_id": [0]}
LIMITS: list[tuple[str, str, Any, str, str]] = [
    ("PUT", "/points", {"points": [{"id": one} for one in range(MAX_POINTS + 1)]}, "points", f"most {MAX_POINTS}"),
    ("PUT", "/points", {"batch": {"ids": MANY, "vectors": {}}}, "batch.ids", f"most {MAX_POINTS}"),
    ("PUT", "/points", {"batch": {"ids": [1, 2], "vectors": {"a": [[1, 0, 0]]}}}, "batch.vectors.a", "1 values for 2"),
    ("PUT", "/points", {"batch": {"ids": [1], "vectors": {}, "payloads": []}}, "batch.payloads", "0 values for 1"),
    ("PUT", "/points", {"batch": {"ids": [1], "vectors": {"c": []}}}, "batch.vectors.c", "got vector name 'c'"),
    ("PUT", "/points", {"points": [{"id": 1, "payload": BIG}]}, "points[0].payload", f"most {MAX_PAYLOAD_BYTES}"),
    (
        "PUT",
        "/points",
        {"points": [{"id": 1, "payload": nested(MAX_DEPTH + 1)}]},
        "points[0].payload",
        f"{MAX_DEPTH} deep",
    ),
    ("PUT", "/points/vectors", {"points": [{"id": 0, "vector": {}}]}, "points[0].vector", "got no vector"),
    ("PUT", "/points/vectors", {"points": [{"id": 0, "vector": {"b": None}}]}, "points[0].vector", "got no vector"),
    ("POST", "/points/payload", {"payload": BIG, "points": [0]}, "payload", f"most {MAX_PAYLOAD_BYTES}"),
    ("POST", "/points/payload", {"payload": nested(MAX_DEPTH + 1), "points": [0]}, "payload", f"{MAX_DEPTH} deep"),
    ("POST", "/points/payload", {"payload": {"a": 1}, "points": MANY}, "points", f"most {MAX_IDS}"),
    ("POST", "/points/payload", {"payload": {"a": 1}}, "points", "exactly one of points, filter"),
    (
        "POST",
        "/points/payload",
        {"payload": {"a": 1}, "points": [0], "key": "x" * (MAX_PATH + 1)},
        "key",
        f"most {MAX_PATH}",
    ),
    ("POST", "/points/payload", {"payload": {"a": 1}, "points": [0], "key": "a..b"}, "key", "wanted one like"),
    ("PUT", "/points/payload", {"payload": BIG, "points": [0]}, "payload", f"most {MAX_PAYLOAD_BYTES}"),
    ("POST", "/points/payload/delete", {"keys": [], "points": [0]}, "keys", f"1 to {MAX_KEYS}"),
    ("POST", "/points/payload/delete", {"keys": ["a"] * (MAX_KEYS + 1), "points": [0]}, "keys", f"1 to {MAX_KEYS}"),
    ("POST", "/points/payload/clear", {"points": [""]}, "points[0]", "empty id"),
    ("POST", "/points/delete", {"points": MANY}, "points", f"most {MAX_IDS}"),
    (
        "POST",
        "/points/delete",
        {"filter": nested_filter(MAX_FILTER_DEPTH + 1)},
        "filter",
        f"more than {MAX_FILTER_DEPTH} deep",
    ),
    (
        "POST",
        "/points/delete",
        {"filter": {"must": [CONDITION] * (MAX_CONDITIONS + 1)}},
        "filter",
        f"than {MAX_CONDITIONS}",
    ),
    ("POST", "/points/vectors/delete", {"vector": [], "points": [0]}, "vector", f"1 to {MAX_KEYS}"),
    ("POST", "/points/vectors/delete", {"vector": ["c"], "points": [0]}, "vector[0]", "got vector name 'c'"),
    ("POST", "/points/batch", {"operations": [{}] * (MAX_OPERATIONS + 1)}, "operations", f"most {MAX_OPERATIONS}"),
    ("POST", "/points/batch", {"operations": [{}]}, "operations[0]", "exactly one of upsert, delete"),
    (
        "POST",
        "/points/batch",
        {"operations": [{"upsert": {"points": [{"id": one} for one in range(MAX_POINTS // 2 + 1)]}}] * 2},
        "operations",
        f"most {MAX_POINTS}",
    ),
    ("POST", "/points", {"ids": MANY}, "ids", f"most {MAX_IDS}"),
    ("POST", "/points/scroll", {"limit": MAX_LIMIT + 1}, "limit", f"1 to {MAX_LIMIT}"),
    ("POST", "/points/scroll", {"limit": 0}, "limit", f"1 to {MAX_LIMIT}"),
    ("POST", "/points/query", Q | {"limit": MAX_LIMIT + 1}, "limit", f"1 to {MAX_LIMIT}"),
    ("POST", "/points/query", Q | {"offset": MAX_OFFSET + 1}, "offset", f"0 to {MAX_OFFSET}"),
    ("POST", "/points/query", Q | {"params": {"hnsw_ef": MAX_EFFORT + 1}}, "params.hnsw_ef", f"1 to {MAX_EFFORT}"),
    (
        "POST",
        "/points/query",
        Q | {"filter": {"must": [{"has_id": [1] * (MAX_VALUES + 1)}]}},
        "filter.must[0].has_id",
        f"{MAX_VALUES}",
    ),
    (
        "POST",
        "/points/query",
        {"query": {"recommend": {"positive": [0] * (MAX_EXAMPLES + 1)}}, "using": "a"},
        "query.recommend.positive",
        f"most {MAX_EXAMPLES}",
    ),
    ("POST", "/points/query/batch", {"searches": [{}] * (MAX_SEARCHES + 1)}, "searches", f"most {MAX_SEARCHES}"),
    ("PUT", "/index", {"field_name": "", "field_schema": "keyword"}, "field_name", "wanted one like"),
    ("PUT", "/index", {"field_name": "a"}, "field_schema", "wanted a type"),
    ("PUT", "/index", {"field_name": "a", "field_schema": "tree"}, "field_schema", "'tree'"),
    (
        "PUT",
        "/index",
        {"field_name": "a", "field_schema": {"type": "text", "tokenizer": "prefix"}},
        "field_schema.tokenizer",
        "not supp",
    ),
    ("PUT", "/vectors/a", {"dense": {"size": 3, "distance": "Dot"}}, "vector_name", "already exists"),
    ("PUT", "/vectors/c", {"dense": {"size": MAX_DIM + 1, "distance": "Dot"}}, "dense.size", f"1 to {MAX_DIM}"),
    ("PUT", "/vectors/c", {"sparse": {}}, "sparse", "not supported"),
    ("PUT", "/vectors/" + "x" * 256, {"dense": {"size": 3, "distance": "Dot"}}, "vector_name", "1 to 255"),
    ("DELETE", "/vectors/c", None, "vector_name", "got vector name 'c'"),
    ("PATCH", "", {"hnsw_config": {"m": 1}}, "hnsw_config.m", "got 1"),
    ("PATCH", "", {"metadata": {"a": 1}}, "metadata", "not supported"),
    ("PATCH", "", {"vectors": {"c": {}}}, "vectors.c", "got vector name 'c'"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "said"),
    LIMITS,
    ids=[f"{case[0]} {case[1][:24]} {case[3]}: {case[4][:20]}" for case in LIMITS],
)
def test_limits(http: httpx.Client, method: str, path: str, body: Any, field: str, said: str) -> None:
    if field == "filter":
        # How deep it stands depends on the limit; the place begins with the filter.
        answer = http.request(method, C + path, json=body)
        assert answer.status_code in (400, 413)
        assert answer.json()["vss"]["field"].startswith("filter.must")
        assert said in answer.json()["status"]["error"]
    else:
        refused(http, method, path, body, field, said)


def test_what_is_just_within_the_limits_passes(http: httpx.Client) -> None:
    name = "/collections/within"
    assert http.put(name, json={"vectors": {"size": 2, "distance": "Dot"}}).status_code == 200
    points = [{"id": "é" * (MAX_ID_BYTES // 2), "vector": [1, 1], "payload": nested(MAX_DEPTH)}, {"id": 2**64 - 1}]
    assert http.put(name + "/points", json={"points": points}).status_code == 200
    found = http.post(name + "/points/count", json={"filter": nested_filter(MAX_FILTER_DEPTH)})
    assert found.json()["result"]["count"] == 0
    page = http.post(name + "/points/scroll", json={"limit": MAX_LIMIT}).json()["result"]["points"]
    assert [point["id"] for point in page] == [2**64 - 1, "é" * (MAX_ID_BYTES // 2)]
    assert page[1]["payload"] == nested(MAX_DEPTH)


def test_too_many_vectors_and_actions(http: httpx.Client) -> None:
    vectors = {f"v{one}": {"size": 1, "distance": "Dot"} for one in range(MAX_VECTORS + 1)}
    answer = http.put("/collections/wide", json={"vectors": vectors})
    assert (answer.status_code, answer.json()["vss"]["field"]) == (400, "vectors")
    action = {"create_alias": {"collection_name": "limits", "alias_name": "x"}}
    answer = http.post("/collections/aliases", json={"actions": [action] * (MAX_ACTIONS + 1)})
    assert (answer.status_code, answer.json()["vss"]["field"]) == (413, "actions")
    answer = http.post("/collections/aliases", json={"actions": [{}]})
    assert (answer.status_code, answer.json()["vss"]["field"]) == (400, "actions[0]")
    assert http.get("/aliases").json()["result"] == {"aliases": []}


def test_a_payload_may_not_grow_past_the_limit(http: httpx.Client) -> None:
    half = "y" * (MAX_PAYLOAD_BYTES // 2)
    name = "/collections/grow"
    http.put(name, json={"vectors": {"size": 2, "distance": "Dot"}})
    http.put(name + "/points", json={"points": [{"id": 1, "payload": {"a": half}}]})
    answer = http.post(name + "/points/payload", json={"points": [1], "payload": {"b": half}})
    assert answer.status_code == 400
    assert "would grow past" in answer.json()["status"]["error"]
    assert set(http.get(name + "/points/1").json()["result"]["payload"]) == {"a"}
