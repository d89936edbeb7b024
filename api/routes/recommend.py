"""Recommendation: liked and disliked points in, ranked points out."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import Operation
from api.service import Service
from api.wire.base import decode
from api.wire.recommend import RecommendedReply, RecommendReply, RecommendWire, read_recommend
from vss.search.explain import explained
from vss.search.recommend import recommend
from vss.types import Metric

STAGES = {"embed": "embed", "retrieve": "ann", "fetch": "fetch", "rerank": "rerank", "diversify": "diversify"}
"""Stage of a recommendation -> its label in `vss_search_duration_seconds`."""


async def recommend_points(service: Service, request: Request) -> Response:
    """Recommend points from examples, with a model's ranking that fails open."""
    wire = decode(await request.body(), RecommendWire)
    name = request.path_params["collection"]
    view = service.engine.collection(name).view()
    asked, shown = read_recommend(wire, view.schema)
    vector = view.schema.vectors[asked.using]
    service.check_fingerprint(vector, wire.vss.fingerprint if wire.vss else None)
    if asked.query is not None and vector.model is not None:
        await service.text_model(name, asked.using)
    done = await recommend(view, asked, service.models)
    for stage, milliseconds in done.timings_ms.items():
        service.metrics.search_seconds.labels(name, STAGES.get(stage, stage)).observe(milliseconds / 1000)
    if done.degraded:
        service.metrics.fallbacks.labels(done.degraded.partition(":")[0]).inc()
    distance = vector.metric in (Metric.EUCLID, Metric.MANHATTAN)
    points = [
        RecommendedReply(
            id=one.point.id,
            version=one.point.version,
            score=0.0 - one.score if distance and done.reranker is None else one.score,
            similarity=0.0 - one.similarity if distance else one.similarity,
            similarity_rank=one.similarity_rank,
            rerank_rank=one.rerank_rank,
            payload=shown.show_payload(one.point.payload),
            vector=shown.show_vectors(one.point.vectors),
        )
        for one in done.points
    ]
    versions = {
        "generation": view.generation,
        "model": vector.model,
        "fingerprint": vector.fingerprint,
        "reranker": done.reranker,
    }
    result = RecommendReply(
        points=points,
        timings_ms=done.timings_ms,
        degraded=done.degraded,
        unknown_ids=done.unknown_ids,
        versions=versions,
    )
    complete = len(points) == asked.limit
    extra: dict[str, Any] = {"complete": complete}
    if not complete:
        extra["reason"] = f"only {len(points)} match"
        service.metrics.short.labels(name).inc()
    if wire.vss and wire.vss.explain:
        extra["explain"] = explained(view, done.found, done.timings_ms["retrieve"])
    return answer(request, result, view=view, vss=extra)


OPERATIONS = (
    Operation(
        method="POST",
        path="/collections/{collection}/recommend",
        handler=recommend_points,
        summary="Recommend points from examples",
        tag="search",
        body=RecommendWire,
        result=RecommendReply,
    ),
)
