"""An operation: one method on one path, with what it takes and gives. Routes and OpenAPI are both made from these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.forward import forward
from api.service import Service
from vss.errors import invalid

Handler = Callable[[Service, Request], Awaitable[Response]]

CONSISTENCY = ("consistency", "timeout")
"""Query parameters of Qdrant's reads. Every process reads what any has acknowledged, so every consistency holds."""

WRITING = ("wait", "ordering", "timeout")
"""Query parameters of Qdrant's writes. A write is always on disk when it is answered, in the order of its commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation.

    path:      as the router takes it (`/collections/{collection}`)
    query:     names of query parameters that it takes; others are refused
    headers:   headers of its own that it reads
    body:      the struct of its JSON body, or None
    result:    the struct of its answer, or None where it is no JSON
    envelope:  whether the result stands in Qdrant's envelope
    internal:  not part of the public API; answered on the Unix socket only
    forwarded: the writer process carries it out, since it changes something or needs a model: readers forward it
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: Any = None
    result: Any = None
    envelope: bool = True
    internal: bool = False
    forwarded: bool = False


def routes(operations: Sequence[Operation], service: Service) -> list[Route]:
    """A route for each operation."""
    return [
        Route(one.path, partial(_carry_out, one, service), methods=[one.method], name=one.handler.__name__)
        for one in operations
    ]


async def _carry_out(operation: Operation, service: Service, request: Request) -> Response:
    if request.scope["query_string"]:
        for name in request.query_params:
            if name not in operation.query:
                takes = ", ".join(operation.query) or "none"
                raise invalid(f"got a query parameter that this operation does not take, it takes {takes}", field=name)
    if operation.forwarded and service.writer is not None:
        return await forward(service.writer, request)
    return await operation.handler(service, request)
