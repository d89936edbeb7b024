"""Points: upsert, delete, retrieve, scroll, count."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import CONSISTENCY, WRITING, Operation
from api.requests import deadline_of, read_flag
from api.service import Service
from api.wire.base import decode, located, refuse_unsupported, under
from api.wire.filters import read_filter
from api.wire.ids import path_id, read_id
from api.wire.pages import CountReply, CountWire, ScrollReply, ScrollWire, read_limit
from api.wire.points import (
    DeleteWire,
    Draft,
    RecordReply,
    RetrieveWire,
    TextPlace,
    UpsertWire,
    WrittenReply,
    read_delete,
    read_retrieve,
    read_upsert,
)
from api.wire.select import Selection, read_selection
from vss.errors import Code, VssError
from vss.points import Point
from vss.protocols import Deadline
from vss.schema import Schema
from vss.types import Role
from vss.vectors import as_vectors

T = TypeVar("T")

LARGE_BODY = 1 << 14
"""Bytes from which a body is read in a thread: 16 KiB of vectors take about a millisecond."""

LIVE_COUNT = 200
"""Points from which filtering is done in a thread."""


async def upsert_points(service: Service, request: Request) -> Response:
    """Write points whole; all of them or none. Answered when they are on disk."""
    wait = read_flag(request, "wait")
    name = request.path_params["collection"]
    schema = service.engine.entry(name).schema
    body = await request.body()
    draft = await _maybe_in_thread(len(body), partial(_read_body, service, body, schema))
    await _embed(service, draft, schema, deadline_of(request))
    work = partial(service.engine.upsert, name, _points(draft))
    written = await _maybe_in_thread(len(body), work)
    seq = await _durable(written)
    return answer(request, _written(seq, wait), vss={"seq": seq})


async def delete_points(service: Service, request: Request) -> Response:
    """Delete points by id; ids that do not exist are no error. Answered when it is on disk."""
    wait = read_flag(request, "wait")
    ids = read_delete(decode(await request.body(), DeleteWire))
    seq = await _durable(service.engine.remove(request.path_params["collection"], ids))
    return answer(request, _written(seq, wait), vss={"seq": seq})


async def retrieve_points(service: Service, request: Request) -> Response:
    """Read points by id; those that do not exist are left out."""
    wire = decode(await request.body(), RetrieveWire)
    view = service.engine.collection(request.path_params["collection"]).view()
    ids = read_retrieve(wire)
    shown = read_selection(wire.with_payload, wire.with_vector, view.schema, payload=True)
    records = [_record(point, shown) for point in view.retrieve(ids)]
    return answer(request, records, view=view)


async def get_point(service: Service, request: Request) -> Response:
    """Read one point with its vectors."""
    view = service.engine.collection(request.path_params["collection"]).view()
    one = path_id(request.path_params["id"])
    found = view.retrieve([one])
    if not found:
        raise VssError(Code.NOT_FOUND, f"got id {one!r}, which does not exist", field="id")
    return answer(request, _record(found[0], Selection(True, (), True)), view=view)


async def scroll_points(service: Service, request: Request) -> Response:
    """Read points page by page: integer ids ascending, then strings by their bytes."""
    wire = decode(await request.body(), ScrollWire)
    refuse_unsupported(wire)
    view = service.engine.collection(request.path_params["collection"]).view()
    shown = read_selection(wire.with_payload, wire.with_vector, view.schema, payload=True)
    start = None if wire.offset is None else read_id(wire.offset, "offset")
    where, limit = read_filter(wire.filter), read_limit(wire.limit)

    def page() -> ScrollReply:
        places, following = view.scroll(where, start, limit)
        points = [part.point(row, vectors=shown.vectors is not False) for part, row in places]
        return ScrollReply(points=[_record(point, shown) for point in points], next_page_offset=following)

    heavy = limit > LIVE_COUNT or (where is not None and view.points > LIVE_COUNT)
    return answer(request, await asyncio.to_thread(page) if heavy else page(), view=view)


async def count_points(service: Service, request: Request) -> Response:
    """Count the points that match; always exact."""
    wire = decode(await request.body() or b"{}", CountWire)
    refuse_unsupported(wire)
    view = service.engine.collection(request.path_params["collection"]).view()
    where = read_filter(wire.filter)
    heavy = where is not None and view.points > LIVE_COUNT
    count = await asyncio.to_thread(view.count, where) if heavy else view.count(where)
    return answer(request, CountReply(count=count), view=view)


async def _maybe_in_thread(size: int, work: partial[T]) -> T:
    return await asyncio.to_thread(work) if size > LARGE_BODY else work()


async def _durable(written: Future[int]) -> int:
    """Wait until a write is on disk. A client that goes away meanwhile does not take its write back."""
    return await asyncio.shield(asyncio.wrap_future(written))


def _read_body(service: Service, body: bytes, schema: Schema) -> Draft:
    wire = decode(body, UpsertWire)
    if wire.vss is not None:
        for vector in schema.vectors.values():
            service.check_fingerprint(vector, wire.vss.fingerprint)
    return read_upsert(wire, schema)


async def _embed(service: Service, draft: Draft, schema: Schema, deadline: Deadline) -> None:
    """Turn the draft's texts into vectors."""
    by_name: dict[str, list[TextPlace]] = defaultdict(list)
    for place in draft.texts:
        by_name[place.name].append(place)
    for name, places in by_name.items():
        known = schema.vectors[name]
        model = service.text_model(known)
        made = await service.models.embed(model, [place.text for place in places], Role.DOCUMENT, deadline)
        try:
            vectors = as_vectors(made, known.dim, known.metric)
        except VssError as error:
            raise located(error, under(f"points[{places[0].point}].vector", name)) from error
        for place, vector in zip(places, vectors, strict=True):
            draft.vectors[place.point][name] = vector


def _points(draft: Draft) -> list[Point]:
    return [
        Point(id=one, vectors=vectors, payload=payload)
        for one, vectors, payload in zip(draft.ids, draft.vectors, draft.payloads, strict=True)
    ]


def _written(seq: int, wait: bool) -> WrittenReply:
    return WrittenReply(operation_id=seq, status="completed" if wait else "acknowledged")


def _record(point: Point, shown: Selection) -> RecordReply:
    return RecordReply(
        id=point.id,
        version=point.version,
        payload=shown.show_payload(point.payload),
        vector=shown.show_vectors(point.vectors),
    )


_ALL = "/collections/{collection}/points"

OPERATIONS = (
    Operation(
        method="PUT",
        path=_ALL,
        handler=upsert_points,
        summary="Write points",
        tag="points",
        query=WRITING,
        body=UpsertWire,
        result=WrittenReply,
    ),
    Operation(
        method="POST",
        path=_ALL,
        handler=retrieve_points,
        summary="Read points by id",
        tag="points",
        query=CONSISTENCY,
        body=RetrieveWire,
        result=list[RecordReply],
    ),
    Operation(
        method="POST",
        path=_ALL + "/delete",
        handler=delete_points,
        summary="Delete points by id",
        tag="points",
        query=WRITING,
        body=DeleteWire,
        result=WrittenReply,
    ),
    Operation(
        method="POST",
        path=_ALL + "/scroll",
        handler=scroll_points,
        summary="Read points page by page",
        tag="points",
        query=CONSISTENCY,
        body=ScrollWire,
        result=ScrollReply,
    ),
    Operation(
        method="POST",
        path=_ALL + "/count",
        handler=count_points,
        summary="Count points",
        tag="points",
        query=CONSISTENCY,
        body=CountWire,
        result=CountReply,
    ),
    Operation(
        method="GET",
        path=_ALL + "/{id:path}",
        handler=get_point,
        summary="Read one point",
        tag="points",
        query=CONSISTENCY,
        result=RecordReply,
    ),
)
