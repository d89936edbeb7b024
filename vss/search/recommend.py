"""Recommendation: liked and disliked items and perhaps a text in, ranked points out.

    examples -> query vector -> candidates -> re-rank -> diversify -> page

The query vector is the mean of the liked items (and the text), moved away from the mean of the disliked ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from vss.errors import invalid
from vss.filters import Condition, Filter, HasId, values_at
from vss.points import Point
from vss.protocols import Candidates, Deadline, Models, RerankQuery
from vss.schema import VectorSchema
from vss.search.diversify import mmr
from vss.search.examples import average_vector
from vss.search.rank import rank
from vss.search.retrieve import Found, search_async
from vss.storage.view import Part, View
from vss.types import PointId, Role, Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What is asked for.

    positive, negative: ids of example points; unknown ones are ignored and reported
    query:              a text that the points should fit, for collections whose model is served
    candidates:         how many points retrieval hands to the re-ranker; at least `limit` are taken
    rerank_model:       None keeps the similarity order
    timeout_ms:         what the re-ranker may take; None is no limit
    fail_open:          whether a failed re-ranker leaves the similarity order or fails the request
    diversity:          0 for none, up to 1 (see `diversify.mmr`)
    exclude:            ids that are not returned; the examples never are
    """

    positive: Sequence[PointId] = ()
    negative: Sequence[PointId] = ()
    query: str | None = None
    using: str = ""
    limit: int = 10
    where: Condition | None = None
    candidates: int = 100
    rerank_model: str | None = None
    timeout_ms: float | None = None
    fail_open: bool = True
    diversity: float = 0.0
    exclude: Sequence[PointId] = ()
    recall: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedPoint:
    """One answer. Scores of different scales are never mixed: each stands under its own name.

    score:           what the page is ordered by before diversity: the re-ranker's, or the similarity without one
    similarity:      the retrieval's score
    similarity_rank: place among the candidates by similarity, from 1
    rerank_rank:     place after re-ranking, from 1; None without one
    """

    point: Point
    score: float
    similarity: float
    similarity_rank: int
    rerank_rank: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """The page and how it came about. `timings_ms` has one entry for each stage that ran."""

    points: list[RecommendedPoint]
    found: Found
    unknown_ids: list[PointId]
    degraded: str | None
    reranker: str | None
    timings_ms: dict[str, float] = field(default_factory=dict)


class _Stages:
    """Milliseconds by stage, each from the end of the one before."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, stage: str) -> None:
        now = time.perf_counter()
        self.timings[stage] = (now - self._last) * 1000
        self._last = now


async def recommend(view: View, request: Recommendation, models: Models) -> Recommended:
    """Carry out one recommendation on one view.

    Raises VssError: INVALID when nothing is left to go by (no known liked item and no text), for an unknown vector
    name, or when the examples cancel each other out under Cosine; the model's errors for `query`; the re-ranker's
    when not `fail_open`.
    """
    stages = _Stages()
    schema = view.schema.vector(request.using)
    liked, unknown = _examples(view, request.positive, request.using)
    disliked, unknown_too = _examples(view, request.negative, request.using)
    text = None
    if request.query is not None:
        if schema.model is None:
            raise invalid(
                "got a query text, but these vectors were not made by a model",
                field="query",
                hint="send positive ids, or create the collection with vss.model",
            )
        text = await models.embed(schema.model, [request.query], Role.QUERY, Deadline())
        stages.done("embed")
    vector = _query_vector(schema, request.using, liked, disliked, text)

    hidden = HasId((*request.exclude, *request.positive, *request.negative))
    where = Filter(must=() if request.where is None else (request.where,), must_not=(hidden,))
    wanted = max(request.candidates, request.limit)
    (found,) = await search_async(view, vector, using=request.using, k=wanted, where=where, recall=request.recall)
    stages.done("retrieve")

    places = [(view.parts[part], row) for part, row in zip(found.parts.tolist(), found.rows.tolist(), strict=True)]
    points = [part.point(row) for part, row in places]
    candidates = Candidates(texts=tuple(_text(point, schema) for point in points), similarity=found.scores)
    stages.done("fetch")

    asked = RerankQuery(
        wanted=tuple(filter(None, [request.query or "", *(_text(point, schema) for point in liked)])),
        unwanted=tuple(filter(None, (_text(point, schema) for point in disliked))),
    )
    deadline = Deadline.after_ms(request.timeout_ms)
    ranking = await rank(models, request.rerank_model, asked, candidates, deadline, fail_open=request.fail_open)
    if request.rerank_model is not None:
        stages.done("rerank")
    order = ranking.order
    if request.diversity > 0 and len(points):
        vectors = np.stack([points[one].vectors[request.using] for one in order])
        order = order[mmr(ranking.scores[order], vectors, schema.metric, request.diversity, request.limit)]
        stages.done("diversify")

    reranked = request.rerank_model is not None and ranking.degraded is None
    rank_of = {int(one): place for place, one in enumerate(ranking.order, start=1)}
    page = [
        RecommendedPoint(
            point=points[one],
            score=float(ranking.scores[one]),
            similarity=float(found.scores[one]),
            similarity_rank=one + 1,
            rerank_rank=rank_of[one] if reranked else None,
        )
        for one in order[: request.limit].tolist()
    ]
    return Recommended(
        points=page,
        found=found,
        unknown_ids=unknown + unknown_too,
        degraded=ranking.degraded,
        reranker=request.rerank_model if reranked else None,
        timings_ms=stages.timings,
    )


def _examples(view: View, ids: Sequence[PointId], using: str) -> tuple[list[Point], list[PointId]]:
    """The example points that exist and have the vector, and the ids of those that do not."""
    found: list[Point] = []
    unknown: list[PointId] = []
    for one in ids:
        place: tuple[Part, int] | None = view.find(one)
        point = place[0].point(place[1]) if place else None
        if point is not None and using in point.vectors:
            found.append(point)
        else:
            unknown.append(one)
    return found, unknown


def _query_vector(
    schema: VectorSchema, using: str, liked: Sequence[Point], disliked: Sequence[Point], text: Vectors | None
) -> Vectors:
    """`(1, dim)` what the candidates should be near."""
    wanted = [point.vectors[using] for point in liked] + ([] if text is None else [text[0]])
    if not wanted:
        raise invalid(
            "got no liked item that exists and no query text, wanted at least one of them",
            field="positive",
            hint="send the id of a stored point, or a query",
        )
    return average_vector(schema, wanted, [point.vectors[using] for point in disliked], field="negative")


def _text(point: Point, schema: VectorSchema) -> str:
    """The text that the vector was made from, as far as the payload has it."""
    if schema.text_field is None:
        return ""
    values = values_at(msgspec.json.decode(point.payload), schema.text_field)
    return next((value for value in values if isinstance(value, str)), "")
