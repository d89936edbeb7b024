"""`/openapi.json`, and `/docs` that shows it without loading anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.openapi import document, page
from api.operations import Operation
from api.service import Service


def documented(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, and the two that describe them all."""

    async def openapi(service: Service, request: Request) -> Response:
        """This API as OpenAPI 3.1."""
        return Response(described, media_type="application/json")

    async def docs(service: Service, request: Request) -> Response:
        """This API for people."""
        return HTMLResponse(shown)

    both = (
        Operation(
            method="GET", path="/openapi.json", handler=openapi, summary="OpenAPI", tag="service", envelope=False
        ),
        Operation(method="GET", path="/docs", handler=docs, summary="This page", tag="service", envelope=False),
    )
    every = (*operations, *both)
    described = msgspec.json.encode(document(every))
    shown = page(every)
    return every
