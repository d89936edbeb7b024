"""`POST /collections/{collection}/recommend`: ours, in Qdrant's envelope."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from api.wire.base import Reply, Wire
from api.wire.filters import FilterWire, read_filter
from api.wire.ids import read_ids
from api.wire.pages import read_limit
from api.wire.select import Selection, WithPayload, WithVector, read_selection
from vss.errors import invalid
from vss.schema import DEFAULT_VECTOR, Schema
from vss.search.recommend import Recommendation

MAX_CANDIDATES = 1_000
"""Points that one request may have re-ranked."""

MAX_TIMEOUT_MS = 60_000.0


class RerankWire(Wire):
    """The model that orders the candidates. `on_error`: keep the similarity order and say so, or fail."""

    model: str
    timeout_ms: float | None = None
    on_error: Literal["fallback", "fail"] = "fallback"


class VssRecommend(Wire):
    """The recall of the retrieval, whether to explain, and the model's fingerprint to insist on."""

    recall: float | None = None
    explain: bool = False
    fingerprint: str | None = None


class RecommendWire(Wire):
    """Examples by id, perhaps a text, and what to do with the candidates."""

    positive: list[int | str] = msgspec.field(default_factory=list)
    negative: list[int | str] = msgspec.field(default_factory=list)
    query: str | None = None
    using: str | None = None
    limit: int | None = None
    filter: FilterWire | None = None
    candidates: int = 100
    rerank: RerankWire | None = None
    diversity: float = 0.0
    exclude: list[int | str] = msgspec.field(default_factory=list)
    with_payload: WithPayload = None
    with_vector: WithVector = None
    vss: VssRecommend | None = None


class RecommendedReply(Reply):
    """One point. Scores of different scales stand under their own names."""

    id: int | str
    version: int
    score: float
    similarity: float
    similarity_rank: int
    rerank_rank: int | None = None
    payload: msgspec.Raw | None = None
    vector: Any = None


class RecommendReply(msgspec.Struct, kw_only=True):
    """The page and how it came about; `degraded` says why the similarity order was kept."""

    points: list[RecommendedReply]
    timings_ms: dict[str, float]
    degraded: str | None
    unknown_ids: list[int | str]
    versions: dict[str, Any]


def read_recommend(wire: RecommendWire, schema: Schema) -> tuple[Recommendation, Selection]:
    """Check a recommendation. VssError (INVALID, TOO_LARGE, UNSUPPORTED) names the place."""
    using = wire.using or DEFAULT_VECTOR
    schema.vector(using)
    limit = read_limit(wire.limit)
    if not 1 <= wire.candidates <= MAX_CANDIDATES:
        raise invalid(f"got {wire.candidates}, wanted 1 to {MAX_CANDIDATES}", field="candidates")
    if not 0 <= wire.diversity <= 1:
        raise invalid(f"got {wire.diversity}, wanted 0 to 1", field="diversity")
    rerank = wire.rerank
    if rerank and rerank.timeout_ms is not None and not 0 <= rerank.timeout_ms <= MAX_TIMEOUT_MS:
        raise invalid(f"got {rerank.timeout_ms}, wanted 0 to {MAX_TIMEOUT_MS:g}", field="rerank.timeout_ms")
    recall = wire.vss.recall if wire.vss else None
    if recall is not None and not 0 < recall <= 1:
        raise invalid(f"got {recall}, wanted more than 0 and at most 1", field="vss.recall")
    request = Recommendation(
        positive=read_ids(wire.positive, "positive"),
        negative=read_ids(wire.negative, "negative"),
        query=wire.query,
        using=using,
        limit=limit,
        where=read_filter(wire.filter),
        candidates=wire.candidates,
        rerank_model=rerank.model if rerank else None,
        timeout_ms=rerank.timeout_ms if rerank else None,
        fail_open=rerank is None or rerank.on_error == "fallback",
        diversity=wire.diversity,
        exclude=read_ids(wire.exclude, "exclude"),
        recall=recall,
    )
    return request, read_selection(wire.with_payload, wire.with_vector, schema, payload=True)
