"""Queries: one struct for the union that `query` is, read into one noun, `Query`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

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
from api.wire.ids import read_id
from api.wire.pages import read_limit, read_offset
from api.wire.select import Selection, WithPayload, WithVector, read_selection
from api.wire.vectors import Document, read_document
from vss.errors import VssError, invalid
from vss.filters import Filter
from vss.schema import DEFAULT_VECTOR, Schema, VectorSchema
from vss.search.examples import Strategy
from vss.types import PointId, Vectors
from vss.vectors import as_vectors

MAX_EFFORT = 10_000
MAX_SEARCHES = 1_000
"""Queries in one batch."""

MAX_EXAMPLES = 1_000
"""Positive examples of one query, and negative ones."""

AVERAGE: Literal["average_vector"] = "average_vector"

ExampleWire = list[float] | int | str | Document


class RecommendInput(Wire):
    """Examples by id or as vectors. `average_vector`, the default, wants at least one positive one."""

    positive: list[ExampleWire] | None = None
    negative: list[ExampleWire] | None = None
    strategy: Literal["average_vector", "best_score", "sum_scores"] | None = None


class LookupWire(Wire):
    """The collection, and its vector, that the ids of examples are looked up in."""

    collection: str
    vector: str | None = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


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
    defaults: Unsupported = None
    sample: Unsupported = None
    relevance_feedback: Unsupported = None
    indices: Unsupported = None
    values: Unsupported = None

    unsupported: ClassVar[Harmless] = dict.fromkeys(
        (
            "mmr",
            "discover",
            "context",
            "order_by",
            "fusion",
            "rrf",
            "formula",
            "sample",
            "relevance_feedback",
            "indices",
            "values",
        ),
        (),
    ) | {"options": ({},), "defaults": ({},)}
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
    lookup_from: LookupWire | None = None
    shard_key: Unsupported = None
    vss: VssQuery | None = None

    unsupported: ClassVar[Harmless] = {"prefetch": ([],), "shard_key": ()}


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
class Text:
    """A text for the vector's model."""

    text: str


@dataclass(frozen=True, slots=True)
class ById:
    """A stored point whose vector is the query, or an example of one; `field` says where it was asked for."""

    id: PointId
    field: str


Example = ById | Vectors


@dataclass(frozen=True, slots=True)
class Examples:
    """Points or vectors `(1, dim)` to be like and unlike. Without a strategy they become one vector, the average of
    the stored vectors and of the vectors as they were sent."""

    positive: tuple[Example, ...]
    negative: tuple[Example, ...]
    strategy: Strategy | None
    field: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where ids are looked up instead of the collection that is searched."""

    collection: str
    vector: str
    field: str


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
    lookup: Lookup | None
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
        lookup=_lookup(wire.lookup_from, under(prefix, "lookup_from")),
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
    said = wire.recommend.strategy
    strategy = None if said in (None, AVERAGE) else Strategy(said)
    positive = _examples(wire.recommend.positive or (), schema.vector(using), strategy, under(where, "positive"))
    negative = _examples(wire.recommend.negative or (), schema.vector(using), strategy, under(where, "negative"))
    if not positive and (strategy is None or not negative):
        wanted = "at least one" if strategy is None else "a positive or a negative one"
        raise invalid(f"got no positive example, wanted {wanted}", field=under(where, "positive"))
    return Examples(positive, negative, strategy, where)


def _examples(
    values: Sequence[ExampleWire], known: VectorSchema, strategy: Strategy | None, where: str
) -> tuple[Example, ...]:
    if len(values) > MAX_EXAMPLES:
        raise invalid(f"got {len(values)} examples, wanted at most {MAX_EXAMPLES}", field=where)
    found: list[Example] = []
    for place, value in enumerate(values):
        at = f"{where}[{place}]"
        match value:
            case list():
                vector = _vector(value, known, at)
                # As in Qdrant, a vector counts in an average with the length it was sent with, under Cosine too.
                found.append(np.asarray([value], np.float32) if strategy is None else vector)
            case Document():
                raise unsupported(at, hint="send an id or a vector, or POST /collections/{collection}/recommend")
            case _:
                found.append(ById(read_id(value, at), at))
    return tuple(found)


def _lookup(wire: LookupWire | None, where: str) -> Lookup | None:
    if wire is None:
        return None
    refuse_unsupported(wire, where)
    return Lookup(wire.collection, wire.vector or DEFAULT_VECTOR, where)


def _vector(value: list[float], known: VectorSchema, where: str) -> Vectors:
    """`(1, dim)` a vector that was sent."""
    return as_vectors(value, known.dim, known.metric, field=where)


def _nearest(
    value: list[float] | int | str | Document, schema: Schema, using: str, where: str
) -> Vectors | Text | ById:
    known = schema.vector(using)
    match value:
        case list():
            return _vector(value, known, where)
        case Document():
            return Text(read_document(value, known, where))
        case _:
            return ById(read_id(value, where), where)


_NO_PARAMS = SearchParams()
_NO_ADDITIONS = VssQuery()
