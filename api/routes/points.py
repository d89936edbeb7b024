"""Reading points: retrieve, scroll, count."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import CONSISTENCY, Operation
from api.service import Service
from api.wire.base import decode, refuse_unsupported
from api.wire.filters import read_filter
from api.wire.ids import path_id
from api.wire.pages import CountReply, CountWire, Scroll, ScrollReply, ScrollWire, read_scroll
from api.wire.points import RecordReply, RetrieveWire, read_retrieve, show_record
from api.wire.select import Selection, read_selection
from vss.errors import Code, VssError
from vss.storage.ordering import ordered
from vss.storage.view import View

LIVE_COUNT = 200
"""Points from which filtering is done in a thread."""


async def retrieve_points(service: Service, request: Request) -> Response:
    """Read points by id; those that do not exist are left out."""
    wire = decode(await request.body(), RetrieveWire)
    view = service.engine.collection(request.path_params["collection"]).view()
    ids = read_retrieve(wire)
    shown = read_selection(wire.with_payload, wire.with_vector, view.schema, payload=True)
    records = [show_record(point, shown) for point in view.retrieve(ids)]
    return answer(request, records, view=view)


async def get_point(service: Service, request: Request) -> Response:
    """Read one point with its vectors."""
    view = service.engine.collection(request.path_params["collection"]).view()
    one = path_id(request.path_params["id"])
    found = view.retrieve([one])
    if not found:
        raise VssError(Code.NOT_FOUND, f"got id {one!r}, which does not exist", field="id")
    return answer(request, show_record(found[0], Selection(True, (), True)), view=view)


async def scroll_points(service: Service, request: Request) -> Response:
    """Read points page by page, in the order of their ids or of a payload field."""
    wire = decode(await request.body() or b"{}", ScrollWire)
    view = service.engine.collection(request.path_params["collection"]).view()
    asked = read_scroll(wire, view.schema)
    heavy = asked.limit > LIVE_COUNT or ((asked.where or asked.order) and view.points > LIVE_COUNT)
    page = await asyncio.to_thread(_page, view, asked) if heavy else _page(view, asked)
    return answer(request, page, view=view)


def _page(view: View, asked: Scroll) -> ScrollReply:
    vectors = asked.selection.vectors is not False
    if asked.order is not None:
        placed = ordered(view, asked.where, asked.order, asked.limit)
        points = [show_record(one.part.point(one.row, vectors=vectors), asked.selection, one.value) for one in placed]
        return ScrollReply(points=points, next_page_offset=None)
    places, following = view.scroll(asked.where, asked.start, asked.limit)
    points = [show_record(part.point(row, vectors=vectors), asked.selection) for part, row in places]
    return ScrollReply(points=points, next_page_offset=following)


async def count_points(service: Service, request: Request) -> Response:
    """Count the points that match; always exact."""
    wire = decode(await request.body() or b"{}", CountWire)
    refuse_unsupported(wire)
    view = service.engine.collection(request.path_params["collection"]).view()
    where = read_filter(wire.filter)
    heavy = where is not None and view.points > LIVE_COUNT
    count = await asyncio.to_thread(view.count, where) if heavy else view.count(where)
    return answer(request, CountReply(count=count), view=view)


_ALL = "/collections/{collection}/points"

OPERATIONS = (
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
