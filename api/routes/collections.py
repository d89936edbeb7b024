"""Collections: create, list, get, exists, change, delete."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.forward import forward
from api.operations import CONSISTENCY, WRITING, Operation
from api.service import Service
from api.wire.base import decode
from api.wire.changes import UpdateCollectionWire, read_update
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
from api.wire.indexing import check_index
from vss.engines.health import health
from vss.errors import Code, VssError


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
    if service.writer is not None:
        with suppress(VssError):  # whether it takes writes only the writer knows
            return await forward(service.writer, request)
    entry = service.engine.entry(request.path_params["collection"])
    found = health(service.engine, entry.name)
    if found.unreadable is not None:
        return answer(request, describe(entry, None, found), vss={"schema": msgspec.to_builtins(entry.schema)})
    view = service.engine.collection(entry.name).view()
    # Declared fields are counted, which reads their columns.
    described = (
        await asyncio.to_thread(describe, entry, view, found)
        if entry.schema.payload_indexes
        else describe(entry, view, found)
    )
    return answer(request, described, view=view, vss=additions(entry, view))


async def collection_exists(service: Service, request: Request) -> Response:
    """Tell whether a collection, or an alias of one, exists."""
    try:
        service.engine.entry(request.path_params["collection"])
        exists = True
    except VssError as error:
        if error.code is not Code.NOT_FOUND:
            raise
        exists = False
    return answer(request, ExistsReply(exists=exists))


async def update_collection(service: Service, request: Request) -> Response:
    """Change the index that the next build makes. What is built stays as it is."""
    wire = decode(await request.body(), UpdateCollectionWire)
    entry = service.engine.entry(request.path_params["collection"])
    index = read_update(wire, entry.schema)
    if index != entry.schema.index:
        check_index(replace(entry.schema, index=index), service.indexers, "hnsw_config")
        await asyncio.to_thread(service.engine.change_index, entry.name, index)
    return answer(request, True)


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
        forwarded=True,
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
        method="PATCH",
        path=_ONE,
        handler=update_collection,
        summary="Change the index of the next build",
        tag="collections",
        query=WRITING,
        body=UpdateCollectionWire,
        result=bool,
        forwarded=True,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        handler=delete_collection,
        summary="Delete a collection",
        tag="collections",
        query=WRITING,
        result=bool,
        forwarded=True,
    ),
)
