"""`/openapi.json`, and `/docs` that shows it without loading anything from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.openapi import document, page
from api.operations import Operation
from api.service import Service


def documented(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, and the two that describe them all; what these say is made when it is first asked for, since it
    takes a tenth of the time in which a server starts."""

    @cache
    def described() -> bytes:
        return msgspec.json.encode(document(every))

    @cache
    def shown() -> str:
        return page(every)

    async def openapi(service: Service, request: Request) -> Response:
        """This API as OpenAPI 3.1."""
        return Response(await asyncio.to_thread(described), media_type="application/json")

    async def docs(service: Service, request: Request) -> Response:
        """This API for people."""
        return HTMLResponse(await asyncio.to_thread(shown))

    every = (
        *operations,
        Operation(
            method="GET", path="/openapi.json", handler=openapi, summary="OpenAPI", tag="service", envelope=False
        ),
        Operation(method="GET", path="/docs", handler=docs, summary="This page", tag="service", envelope=False),
    )
    return every
