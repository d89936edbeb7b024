"""Queries: one struct for the union that `query` is, read into one noun, `Query`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from api.wire.base import (
    Harmless,
    Hints,
    Reply,
    Unsupported,
    Wire,
    exactly_one,
    located,
    refuse_unsupported,
    under,
    unsupported,
)
from api.wire.filters import FilterWire, read_filter
from api.wire.ids import read_id, read_ids
from api.wire.pages import read_limit, read_offset
from api.wire.points import Document, read_document
from api.wire.select import Selection, WithPayload, WithVector, read_selection
from vss.errors import VssError, invalid
from vss.filters import Filter
from vss.schema import DEFAULT_VECTOR, Schema
from vss.types import PointId, Vectors
from vss.vectors import as_vectors

MAX_EFFORT = 10_000
MAX_SEARCHES = 1_000
"""Queries in one batch."""

AVERAGE = "average_vector"


class RecommendInput(Wire):
    """Examples by id; `average_vector` is the strategy we have."""

    positive: list[int | str] | None = None
    negative: list[int | str] | None = None
    strategy: str | None = None


class QueryInput(Wire):
    """Exactly one of `nearest`, `recommend` and `text`."""

    nearest: list[float] | int | str | Document | None = None
    recommend: RecommendInput | None = None
    text: str | None = None
    model: str | None = None
    options: Unsupported = None
    mmr: Unsupported = None
    discover: Unsupported = None
    context: Unsupported = None
    order_by: Unsupported = None
    fusion: Unsupported = None
    rrf: Unsupported = None
    formula: Unsupported = None
    sample: Unsupported = None
    relevance_feedback: Unsupported = None
    indices: Unsupported = None
    values: Unsupported = None

    unsupported: ClassVar[Harmless] = dict.fromkeys(
        ("mmr", "discover", "context", "order_by", "fusion", "rrf", "formula", "sample", "relevance_feedback"), ()
    ) | {"options": ({},), "indices": (), "values": ()}
    hints: ClassVar[Hints] = {"mmr": "POST /collections/{collection}/recommend has `diversity`"}


class SearchParams(Wire):
    """`exact` searches without an index; `hnsw_ef` is the effort."""

    hnsw_ef: int | None = None
    exact: bool | None = None
    indexed_only: Unsupported = None
    quantization: Unsupported = None
    acorn: Unsupported = None
    idf: Unsupported = None

    unsupported: ClassVar[Harmless] = {"indexed_only": (False,), "quantization": (), "acorn": (), "idf": ()}


class VssQuery(Wire):
    """Our additions to a query: the recall to reach, whether to explain, the model's fingerprint to insist on."""

    recall: float | None = None
    explain: bool = False
    fingerprint: str | None = None


class QueryWire(Wire):
    """`POST /collections/{collection}/points/query`."""

    query: list[float] | int | str | QueryInput | None = None
    using: str | None = None
    limit: int | None = None
    offset: int | None = None
    filter: FilterWire | None = None
    score_threshold: float | None = None
    with_payload: WithPayload = None
    with_vector: WithVector = None
    params: SearchParams | None = None
    prefetch: Unsupported = None
    lookup_from: Unsupported = None
    shard_key: Unsupported = None
    vss: VssQuery | None = None

    unsupported: ClassVar[Harmless] = {"prefetch": ([],), "lookup_from": (), "shard_key": ()}


class QueryBatchWire(Wire):
    """`POST /collections/{collection}/points/query/batch`."""

    searches: list[QueryWire]


class HitReply(Reply):
    """One hit. Under Euclid and Manhattan `score` is the distance, as in Qdrant."""

    id: int | str
    version: int
    score: float
    payload: msgspec.Raw | None = None
    vector: Any = None


class HitsReply(msgspec.Struct, kw_only=True):
    """Hits, best first."""

    points: list[HitReply]


@dataclass(frozen=True, slots=True)
class Examples:
    """Points to be like and unlike."""

    positive: tuple[PointId, ...]
    negative: tuple[PointId, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A text for the vector's model."""

    text: str


@dataclass(frozen=True, slots=True)
class ById:
    """A stored point whose vector is the query."""

    id: PointId


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query as it was read. `target` `(1, dim)` is a ready vector."""

    target: Vectors | Text | ById | Examples
    using: str
    limit: int
    offset: int
    where: Filter | None
    threshold: float | None
    exact: bool
    effort: int | None
    recall: float | None
    explain: bool
    fingerprint: str | None
    selection: Selection


def read_query(wire: QueryWire, schema: Schema, prefix: str = "") -> Query:
    """Check a query. VssError (INVALID, UNSUPPORTED) names the place, `prefix` in front."""
    refuse_unsupported(wire, prefix)
    using = wire.using or DEFAULT_VECTOR
    try:
        schema.vector(using)
    except VssError as error:
        raise located(error, under(prefix, "using")) from None
    params, ours = wire.params or _NO_PARAMS, wire.vss or _NO_ADDITIONS
    refuse_unsupported(params, under(prefix, "params"))
    if params.hnsw_ef is not None and not 1 <= params.hnsw_ef <= MAX_EFFORT:
        raise invalid(f"got {params.hnsw_ef}, wanted 1 to {MAX_EFFORT}", field=under(prefix, "params.hnsw_ef"))
    if ours.recall is not None and not 0 < ours.recall <= 1:
        raise invalid(f"got {ours.recall}, wanted more than 0 and at most 1", field=under(prefix, "vss.recall"))
    where = under(prefix, "query")
    target: Vectors | Text | ById | Examples
    match wire.query:
        case None:
            raise invalid("got nothing, wanted a vector, an id, or a text", field=where, hint="or scroll")
        case QueryInput():
            target = _input(wire.query, schema, using, where)
        case _:
            target = _nearest(wire.query, schema, using, where)
    return Query(
        target=target,
        using=using,
        limit=read_limit(wire.limit, field=under(prefix, "limit")),
        offset=read_offset(wire.offset, field=under(prefix, "offset")),
        where=read_filter(wire.filter, under(prefix, "filter")),
        threshold=wire.score_threshold,
        exact=bool(params.exact),
        effort=params.hnsw_ef,
        recall=ours.recall,
        explain=ours.explain,
        fingerprint=ours.fingerprint,
        selection=read_selection(wire.with_payload, wire.with_vector, schema, payload=False),
    )


def _input(wire: QueryInput, schema: Schema, using: str, where: str) -> Vectors | Text | ById | Examples:
    refuse_unsupported(wire, where)
    kind = exactly_one(wire, ("nearest", "recommend", "text"), where)
    if kind != "text" and wire.model is not None:
        raise invalid("got a model without a text", field=under(where, "model"))
    if kind == "text":
        document = Document(text=wire.text or "", model=wire.model)
        return Text(read_document(document, schema.vector(using), where))
    if kind == "nearest":
        assert wire.nearest is not None
        return _nearest(wire.nearest, schema, using, under(where, "nearest"))
    assert wire.recommend is not None
    where = under(where, "recommend")
    if wire.recommend.strategy not in (None, AVERAGE):
        raise unsupported(under(where, "strategy"), hint=f"send {AVERAGE}")
    positive = read_ids(wire.recommend.positive or (), under(where, "positive"))
    if not positive:
        raise invalid("got no positive example, wanted at least one", field=under(where, "positive"))
    return Examples(positive, read_ids(wire.recommend.negative or (), under(where, "negative")))


def _nearest(
    value: list[float] | int | str | Document, schema: Schema, using: str, where: str
) -> Vectors | Text | ById:
    known = schema.vector(using)
    match value:
        case list():
            return as_vectors(value, known.dim, known.metric, field=where)
        case Document():
            return Text(read_document(value, known, where))
        case _:
            return ById(read_id(value, where))


_NO_PARAMS = SearchParams()
_NO_ADDITIONS = VssQuery()
