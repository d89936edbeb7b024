"""Aliases: change them together, list them."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import WRITING, Operation
from api.service import Service
from api.wire.aliases import AliasActionsWire, AliasesReply, read_actions, show_aliases
from api.wire.base import decode


async def change_aliases(service: Service, request: Request) -> Response:
    """Create, delete and rename aliases; all of the actions or none, at one moment for every reader."""
    actions = read_actions(decode(await request.body(), AliasActionsWire))
    await asyncio.to_thread(service.engine.change_aliases, actions)
    return answer(request, True)


async def list_aliases(service: Service, request: Request) -> Response:
    """List all aliases."""
    return answer(request, show_aliases(service.engine.aliases()))


async def list_collection_aliases(service: Service, request: Request) -> Response:
    """List the aliases of one collection."""
    name = service.engine.entry(request.path_params["collection"]).name
    return answer(request, show_aliases(service.engine.aliases(), name))


OPERATIONS = (
    Operation(
        method="POST",
        path="/collections/aliases",
        handler=change_aliases,
        summary="Change aliases",
        tag="aliases",
        query=WRITING,
        body=AliasActionsWire,
        result=bool,
        forwarded=True,
    ),
    Operation(
        method="GET", path="/aliases", handler=list_aliases, summary="List aliases", tag="aliases", result=AliasesReply
    ),
    Operation(
        method="GET",
        path="/collections/{collection}/aliases",
        handler=list_collection_aliases,
        summary="List the aliases of a collection",
        tag="aliases",
        result=AliasesReply,
    ),
)
