"""Collections: create, list, get, exists, delete."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import CONSISTENCY, WRITING, Operation
from api.service import Service
from api.wire.base import decode
from api.wire.collections import (
    CollectionName,
    CollectionReply,
    CollectionsReply,
    CreateWire,
    ExistsReply,
    additions,
    describe,
    read_create,
)


async def create_collection(service: Service, request: Request) -> Response:
    """Create an empty collection."""
    schema = read_create(decode(await request.body(), CreateWire), service.models, service.indexers)
    await asyncio.to_thread(service.engine.create, request.path_params["collection"], schema)
    return answer(request, True)


async def list_collections(service: Service, request: Request) -> Response:
    """List all collections."""
    names = [CollectionName(name=entry.name) for entry in service.engine.entries()]
    return answer(request, CollectionsReply(collections=names))


async def get_collection(service: Service, request: Request) -> Response:
    """Describe a collection."""
    entry = service.engine.entry(request.path_params["collection"])
    view = service.engine.collection(entry.name).view()
    return answer(request, describe(entry, view), view=view, vss=additions(entry, view))


async def collection_exists(service: Service, request: Request) -> Response:
    """Tell whether a collection exists."""
    name = request.path_params["collection"]
    exists = any(entry.name == name for entry in service.engine.entries())
    return answer(request, ExistsReply(exists=exists))


async def delete_collection(service: Service, request: Request) -> Response:
    """Delete a collection and its data; the result is false when there was none."""
    deleted = await asyncio.to_thread(service.engine.delete, request.path_params["collection"])
    return answer(request, deleted)


_ONE = "/collections/{collection}"

OPERATIONS = (
    Operation(
        method="PUT",
        path=_ONE,
        handler=create_collection,
        summary="Create a collection",
        tag="collections",
        query=WRITING,
        body=CreateWire,
        result=bool,
    ),
    Operation(
        method="GET",
        path="/collections",
        handler=list_collections,
        summary="List collections",
        tag="collections",
        result=CollectionsReply,
    ),
    Operation(
        method="GET",
        path=_ONE,
        handler=get_collection,
        summary="Describe a collection",
        tag="collections",
        query=CONSISTENCY,
        result=CollectionReply,
    ),
    Operation(
        method="GET",
        path=_ONE + "/exists",
        handler=collection_exists,
        summary="Whether a collection exists",
        tag="collections",
        result=ExistsReply,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        handler=delete_collection,
        summary="Delete a collection",
        tag="collections",
        query=WRITING,
        result=bool,
    ),
)
