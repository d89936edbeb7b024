"""What a load asks of a server: requests made from vectors, texts and ids, and whether answers to them are right.

query      one vector, the 10 nearest with payload        text       the same from a text, embedded by the server
filter     query under a filter                           batch      16 vectors in one request
upsert     one point                                      upsert100  100 points
retrieve   one point by id
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from api.bench.http_client import request
from api.bench.load_loops import Operation
from api.cli.client import Client
from vss.errors import Code, VssError, invalid
from vss.recall import recall_by_score
from vss.types import Metric, PointId, Scores, Vectors

K = 10
BATCH = 16
SAMPLE = 100
"""Requests of each operation whose answers are checked."""

LARGE = 100
"""Points in a large upsert."""

_DISTANCES = (Metric.EUCLID, Metric.MANHATTAN)


@dataclass(frozen=True, slots=True)
class Material:
    """What requests are made of.

    collection, metric: of the vectors
    queries: `(q, dim)` float32; held_out says whether they are not among the points
    fresh:   `(u, dim)` float32, vectors of the points to write
    ids:     of stored points
    filter:  in Qdrant's dialect; None when there is none to ask
    texts:   to ask `text_collection` for, whose metric is `text_metric`
    """

    collection: str
    metric: Metric
    queries: Vectors
    fresh: Vectors
    ids: Sequence[PointId]
    held_out: bool
    filter: dict[str, Any] | None = None
    texts: Sequence[str] = field(default=())
    text_collection: str = ""
    text_metric: Metric = Metric.COSINE


@dataclass(frozen=True, slots=True)
class Call:
    """One request before it is bytes."""

    method: str
    path: str
    body: Any = None


def _query(material: Material) -> list[Call]:
    return [_search(material.collection, vector.tolist()) for vector in material.queries]


def _filter(material: Material) -> list[Call]:
    if material.filter is None:
        raise invalid("got the operation filter and no filter", field="--filter", hint="""like '{"must": [...]}'""")
    return [_search(material.collection, vector.tolist(), filter=material.filter) for vector in material.queries]


def _text(material: Material) -> list[Call]:
    if not material.texts:
        raise invalid("got the operation text and no texts", field="--texts", hint="name a file with one a line")
    return [_search(material.text_collection, {"text": text}) for text in material.texts]


def _batch(material: Material) -> list[Call]:
    path = f"{_points(material.collection)}/query/batch"
    searches = [{"query": vector.tolist(), "limit": K, "with_payload": True} for vector in material.queries]
    starts = range(0, len(searches), BATCH)
    return [Call("POST", path, {"searches": searches[start : start + BATCH]}) for start in starts]


def _upsert(material: Material) -> list[Call]:
    return _upserts(material, 1)


def _upsert_large(material: Material) -> list[Call]:
    return _upserts(material, LARGE)


def _retrieve(material: Material) -> list[Call]:
    return [Call("GET", f"{_points(material.collection)}/{quote(str(one), safe='')}") for one in material.ids]


OPERATIONS: dict[str, Callable[[Material], list[Call]]] = {
    "query": _query,
    "text": _text,
    "filter": _filter,
    "batch": _batch,
    "upsert": _upsert,
    "upsert100": _upsert_large,
    "retrieve": _retrieve,
}
WRITES = frozenset({"upsert", "upsert100"})


@dataclass(frozen=True, slots=True)
class Workload:
    """One load's requests: the operations with their weights, and their calls."""

    name: str
    weights: dict[str, float]
    calls: dict[str, list[Call]]

    @property
    def writes(self) -> bool:
        """Whether it changes points."""
        return not WRITES.isdisjoint(self.weights)

    def operations(self, host: str, key: str | None) -> list[Operation]:
        """As a plan has them."""
        return [
            Operation(
                name=name,
                weight=weight,
                sample=SAMPLE if name not in WRITES else 0,
                requests=[
                    request(one.method, one.path, host, b"" if one.body is None else msgspec.json.encode(one.body), key)
                    for one in self.calls[name]
                ],
            )
            for name, weight in self.weights.items()
        ]


def parse_mix(given: str) -> dict[str, float]:
    """`query=0.9,upsert=0.1` as weights. VssError (INVALID) for anything else."""
    weights: dict[str, float] = {}
    for one in given.split(","):
        name, _, number = one.strip().partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if name not in OPERATIONS or name in weights or not 0 < weight < float("inf"):
            raise invalid(
                f"got {one!r} in {given!r}, wanted operation=weight, each once",
                field="--mix",
                hint=f"query=0.9,upsert=0.1 is one; operations: {', '.join(OPERATIONS)}",
            )
        weights[name] = weight
    return weights


def workload(weights: dict[str, float], material: Material) -> Workload:
    """The calls of these operations. VssError (INVALID) when the material lacks something."""
    name = next(iter(weights)) if len(weights) == 1 else ",".join(f"{one}={part:g}" for one, part in weights.items())
    return Workload(name, weights, {one: OPERATIONS[one](material) for one in weights})


class Truth:
    """The exact answers to the calls that are sampled, asked from the server before the load.

    Points that a load adds can only push out worse ones, so they never count as misses.
    """

    def __init__(self, client: Client, work: Workload, material: Material) -> None:
        metrics = (material.text_metric if name == "text" else material.metric for name in work.weights)
        self._signs = [-1.0 if metric in _DISTANCES else 1.0 for metric in metrics]
        self._true: dict[tuple[int, int], Scores] = {}
        self._ids: dict[tuple[int, int], PointId] = {}
        for place, name in enumerate(work.weights):
            for number, call in enumerate(work.calls[name][:SAMPLE]):
                if name == "retrieve":
                    self._ids[place, number] = client.send(call.method, call.path)["result"]["id"]
                elif name not in WRITES:
                    result = client.send(call.method, call.path, _exactly(call.body))["result"]
                    self._true[place, number] = self._scores(place, result)

    def recall(self, samples: Sequence[tuple[int, int, bytes]]) -> float | None:
        """recall@10 of these answers (for retrieve: the part with the right point); None when none can be checked."""
        parts = []
        for place, number, body in samples:
            try:
                result = msgspec.json.decode(body)["result"]
            except (ValueError, KeyError, TypeError) as error:
                raise VssError(
                    Code.UNAVAILABLE, f"got the answer {body[:100]!r}, wanted a result: {error!r}"
                ) from error
            if (place, number) in self._ids:
                parts.append(float(result["id"] == self._ids[place, number]))
            elif (place, number) in self._true:
                parts.append(recall_by_score(self._scores(place, result), self._true[place, number]))
        return float(np.mean(parts)) if parts else None

    def _scores(self, place: int, result: Any) -> Scores:
        pages = result if isinstance(result, list) else [result]
        rows = [[self._signs[place] * point["score"] for point in page["points"]] for page in pages]
        return np.asarray([row + [-np.inf] * (K - len(row)) for row in rows], np.float32)


def _exactly(body: dict[str, Any]) -> dict[str, Any]:
    if "searches" in body:
        return {"searches": [_exactly(one) for one in body["searches"]]}
    return body | {"params": {"exact": True}}


def _points(collection: str) -> str:
    return f"/collections/{quote(collection, safe='')}/points"


def _search(collection: str, query: Any, **more: Any) -> Call:
    body = {"query": query, "limit": K, "with_payload": True}
    return Call("POST", f"{_points(collection)}/query", body | more)


def _upserts(material: Material, size: int) -> list[Call]:
    points = [
        {"id": fresh_id(row), "vector": vector.tolist(), "payload": payload(row)}
        for row, vector in enumerate(material.fresh)
    ]
    path = f"{_points(material.collection)}?wait=true"
    starts = range(0, len(points) - size + 1, size)
    if not starts:
        raise invalid(f"got {len(points)} vectors to write, wanted at least {size}", field="--npy")
    return [Call("PUT", path, {"points": points[start : start + size]}) for start in starts]


def fresh_id(row: int) -> str:
    """The id of a point that a load writes."""
    return f"vss-bench-load-{row}"


def payload(row: int) -> dict[str, Any]:
    """Of a point that the benchmark stores."""
    return {"title": f"item number {row}", "group": row % 10, "price": row / 10}


def remove_fresh(client: Client, material: Material) -> None:
    """Delete the points that a load has written."""
    body = {"points": [fresh_id(row) for row in range(len(material.fresh))]}
    client.send("POST", f"/collections/{quote(material.collection, safe='')}/points/delete?wait=true", body)
