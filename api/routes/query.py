"""Queries by vector, point id, text or examples; one, or a batch whose like members are searched together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import CONSISTENCY, Operation
from api.requests import deadline_of
from api.service import Service
from api.wire.base import decode, located, under
from api.wire.query import (
    MAX_SEARCHES,
    ById,
    Example,
    Examples,
    HitReply,
    HitsReply,
    Lookup,
    Query,
    QueryBatchWire,
    QueryWire,
    Text,
    read_query,
)
from vss.errors import Code, VssError, invalid
from vss.protocols import Deadline
from vss.search.examples import Strategy, average_vector, search_examples
from vss.search.explain import explained
from vss.search.retrieve import LATE, LOOP_MS, Found, cost_ms, search_async
from vss.storage.view import View
from vss.types import Metric, PointId, Role, Vectors
from vss.vectors import as_vectors


@dataclass(slots=True)
class _Asked:
    """One query on its way. `hidden` are places (part, row) that are not to be returned: its own examples."""

    query: Query
    where: str
    vector: Vectors | None = None
    liked: Vectors | None = None
    disliked: Vectors | None = None
    hidden: frozenset[tuple[int, int]] = frozenset()
    found: Found | None = None

    def dim(self, view: View) -> int:
        """Components of the vectors that are searched."""
        return view.schema.vectors[self.query.using].dim

    @property
    def strategy(self) -> Strategy | None:
        """How every point is compared with every example; None for a query that is one vector."""
        target = self.query.target
        return target.strategy if isinstance(target, Examples) else None


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer: the points, whether there are as many as asked for, and why not."""

    points: list[HitReply]
    complete: bool
    reason: str | None
    explain: dict[str, Any] | None


async def query_points(service: Service, request: Request) -> Response:
    """Find the nearest points."""
    wire = decode(await request.body(), QueryWire)
    name = request.path_params["collection"]
    view = service.engine.collection(name).view()
    (page,) = await _run(service, name, view, [_Asked(read_query(wire, view.schema), "")], deadline_of(request))
    extra: dict[str, Any] = {"complete": page.complete}
    if page.reason:
        extra["reason"] = page.reason
    if page.explain:
        extra["explain"] = page.explain
    return answer(request, HitsReply(points=page.points), view=view, vss=extra)


async def query_batch(service: Service, request: Request) -> Response:
    """Find the nearest points of each query."""
    wire = decode(await request.body(), QueryBatchWire)
    if len(wire.searches) > MAX_SEARCHES:
        raise VssError(
            Code.TOO_LARGE, f"got {len(wire.searches)} queries, wanted at most {MAX_SEARCHES}", field="searches"
        )
    name = request.path_params["collection"]
    view = service.engine.collection(name).view()
    asked = []
    for place, one in enumerate(wire.searches):
        where = f"searches[{place}]"
        asked.append(_Asked(read_query(one, view.schema, where), where))
    pages = await _run(service, name, view, asked, deadline_of(request))
    each = [
        {"complete": page.complete, "reason": page.reason} | ({"explain": page.explain} if page.explain else {})
        for page in pages
    ]
    extra = {"complete": all(page.complete for page in pages), "searches": each}
    return answer(request, [HitsReply(points=page.points) for page in pages], view=view, vss=extra)


async def _run(service: Service, name: str, view: View, asked: Sequence[_Asked], deadline: Deadline) -> list[_Page]:
    for one in asked:
        service.check_fingerprint(view.schema.vectors[one.query.using], one.query.fingerprint)
        _resolve(service, view, one)
    if any(isinstance(one.query.target, Text) for one in asked):
        with service.metrics.stage(name, "embed"):
            await _embed(service, name, view, asked, deadline)
    started = perf_counter()
    with service.metrics.stage(name, "ann"):
        await _search(view, asked, deadline)
    milliseconds = (perf_counter() - started) * 1000
    with service.metrics.stage(name, "fetch"):
        pages = [_page(view, one, milliseconds) for one in asked]
    short = sum(not page.complete for page in pages)
    if short:
        service.metrics.short.labels(name).inc(short)
    return pages


def _resolve(service: Service, view: View, one: _Asked) -> None:
    """Turn ids into vectors; texts come later, all at once."""
    query = one.query
    stored = _Stored(view, query.using) if query.lookup is None else _elsewhere(service, view, query, query.lookup)
    match query.target:
        case Text():
            return
        case ById():
            one.vector = stored.vector(query.target)
        case Examples():
            target = query.target
            one.liked = _stack(stored, target.positive, one.dim(view))
            one.disliked = _stack(stored, target.negative, one.dim(view))
            if target.strategy is None:
                schema = view.schema.vectors[query.using]
                one.vector = average_vector(schema, list(one.liked), list(one.disliked), field=target.field)
        case vector:
            one.vector = vector
    if query.lookup is None:
        one.hidden = _places(view, _ids(query.target))


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where ids are looked up."""

    view: View
    name: str

    def vector(self, one: ById) -> Vectors:
        """`(1, dim)` the vector of a stored point. VssError: NOT_FOUND, INVALID when it has none by that name."""
        found = self.view.find(one.id)
        if found is None:
            raise VssError(Code.NOT_FOUND, f"got id {one.id!r}, which does not exist", field=one.field)
        part, row = found
        vector = part.vectors(row).get(self.name)
        if vector is None:
            raise invalid(f"got id {one.id!r}, which has no vector {self.name!r}", field=one.field)
        return vector[None, :]


def _elsewhere(service: Service, view: View, query: Query, lookup: Lookup) -> _Stored:
    """Another collection to look ids up in. VssError: NOT_FOUND, INVALID when its vectors do not fit."""
    try:
        other = service.engine.collection(lookup.collection).view()
        there = other.schema.vector(lookup.vector)
    except VssError as error:
        name = "vector" if error.field == "using" else "collection"
        raise located(error, under(lookup.field, name)) from None
    here = view.schema.vectors[query.using]
    if (there.dim, there.metric) != (here.dim, here.metric):
        raise invalid(
            f"got vectors of {there.dim} numbers under {there.metric}, wanted {here.dim} under {here.metric}",
            field=lookup.field,
        )
    return _Stored(other, lookup.vector)


def _stack(stored: _Stored, wanted: Sequence[Example], dim: int) -> Vectors:
    """`(n, dim)` the examples; each id has to exist."""
    found = [stored.vector(one) if isinstance(one, ById) else one for one in wanted]
    return np.concatenate(found) if found else np.zeros((0, dim), np.float32)


def _ids(target: Vectors | Text | ById | Examples) -> list[PointId]:
    """The points that a query names; they are not returned."""
    match target:
        case ById():
            return [target.id]
        case Examples():
            return [one.id for one in (*target.positive, *target.negative) if isinstance(one, ById)]
        case _:
            return []


def _places(view: View, ids: Sequence[PointId]) -> frozenset[tuple[int, int]]:
    number = {id(part): place for place, part in enumerate(view.parts)}
    return frozenset((number[id(found[0])], found[1]) for one in ids if (found := view.find(one)) is not None)


async def _embed(service: Service, name: str, view: View, asked: Sequence[_Asked], deadline: Deadline) -> None:
    waiting: dict[str, list[tuple[_Asked, str]]] = defaultdict(list)
    for one in asked:
        if isinstance(one.query.target, Text):
            waiting[one.query.using].append((one, one.query.target.text))
    for using, members in waiting.items():
        schema = view.schema.vectors[using]
        model = await service.text_model(name, using)
        made = await service.models.embed(model, [text for _, text in members], Role.QUERY, deadline)
        vectors = as_vectors(made, schema.dim, schema.metric, field="query")
        for place, (one, _) in enumerate(members):
            one.vector = vectors[place : place + 1]


async def _search(view: View, asked: Sequence[_Asked], deadline: Deadline) -> None:
    """Search like queries together: a batch costs less than its members."""
    groups: dict[tuple[Any, ...], list[_Asked]] = defaultdict(list)
    for one in asked:
        query = one.query
        if one.strategy is not None:
            await _search_examples(view, one, deadline)
            continue
        k = query.offset + query.limit + len(one.hidden)
        # By the filter's text: to a dict, a filter for 1 and a filter for true are the same key.
        groups[query.using, k, repr(query.where), query.exact, query.effort, query.recall].append(one)
    for (using, k, _, exact, effort, recall), members in groups.items():
        where = members[0].query.where
        vectors = [one.vector for one in members if one.vector is not None]
        queries = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        answers = await search_async(
            view,
            queries,
            using=using,
            k=k,
            where=where,
            exact=exact,
            effort=effort,
            recall=recall,
            deadline=deadline,
        )
        for one, found in zip(members, answers, strict=True):
            one.found = found


async def _search_examples(view: View, one: _Asked, deadline: Deadline) -> None:
    """Score every point by its likeness to each of the examples."""
    query = one.query
    assert one.liked is not None
    assert one.disliked is not None
    assert one.strategy is not None
    work = partial(
        search_examples,
        view,
        one.liked,
        one.disliked,
        one.strategy,
        using=query.using,
        k=query.offset + query.limit + len(one.hidden),
        where=query.where,
        deadline=deadline,
    )
    count = len(one.liked) + len(one.disliked)
    heavy = count * cost_ms(view, query.using, query.where, exact=True) > LOOP_MS
    one.found = await asyncio.to_thread(work) if heavy else work()


def _page(view: View, one: _Asked, milliseconds: float) -> _Page:
    query, found = one.query, one.found
    assert found is not None
    # The other strategies have scores of their own, higher being better under every metric.
    distance = view.schema.vectors[query.using].metric in (Metric.EUCLID, Metric.MANHATTAN) and one.strategy is None
    hits = [
        (part, row, 0.0 - score if distance else score)
        for part, row, score in zip(found.parts.tolist(), found.rows.tolist(), found.scores.tolist(), strict=True)
        if (part, row) not in one.hidden
    ]
    reason = f"only {len(hits)} match"
    if query.threshold is not None:
        kept = [hit for hit in hits if (hit[2] <= query.threshold if distance else hit[2] >= query.threshold)]
        if len(kept) < len(hits):
            reason = f"only {len(kept)} reach score_threshold {query.threshold:g}"
        hits = kept
    hits = hits[query.offset : query.offset + query.limit]
    shown = query.selection
    points = []
    for part, row, score in hits:
        point = view.parts[part].point(row, vectors=shown.vectors is not False)
        points.append(
            HitReply(
                id=point.id,
                version=point.version,
                score=score,
                payload=shown.show_payload(point.payload),
                vector=shown.show_vectors(point.vectors),
            )
        )
    late = found.reason == LATE
    complete = len(points) == query.limit and not late
    reason = LATE if late else reason
    explain = explained(view, found, milliseconds) if query.explain else None
    return _Page(points, complete, None if complete else reason, explain)


_QUERY = "/collections/{collection}/points/query"

OPERATIONS = (
    Operation(
        method="POST",
        path=_QUERY,
        handler=query_points,
        summary="Find the nearest points",
        tag="search",
        query=CONSISTENCY,
        body=QueryWire,
        result=HitsReply,
    ),
    Operation(
        method="POST",
        path=_QUERY + "/batch",
        handler=query_batch,
        summary="Find the nearest points of several queries",
        tag="search",
        query=CONSISTENCY,
        body=QueryBatchWire,
        result=list[HitsReply],
    ),
)
