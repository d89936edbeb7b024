"""The fields of a living collection: payload indexes, and named vectors that are added and dropped."""

from __future__ import annotations

import asyncio

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import WRITING, Operation
from api.requests import read_flag
from api.service import Service
from api.wire.base import decode, located
from api.wire.changes import AddVectorWire, CreateIndexWire, read_add_vector, read_payload_index
from api.wire.payloads import read_path
from api.wire.writes import WrittenReply
from vss.errors import VssError, invalid


async def create_payload_index(service: Service, request: Request) -> Response:
    """Say what type a payload field has. Filters need it not: every field is a column as soon as it is sealed.

    Old segments, and those with very many fields, may lack the column: they get it, before the answer with `wait`.
    """
    name = request.path_params["collection"]
    path, kind = read_payload_index(decode(await request.body(), CreateIndexWire))
    await asyncio.to_thread(service.engine.set_payload_index, name, path, kind)
    if read_flag(request, "wait"):
        await asyncio.to_thread(service.engine.add_columns, name, path)
        return _changed(service, request)
    response = _changed(service, request)
    response.background = BackgroundTask(service.engine.add_columns, name, path)
    return response


async def delete_payload_index(service: Service, request: Request) -> Response:
    """Take the declaration of a payload field back; one that was never made is no error."""
    path = read_path(request.path_params["field"], "field_name")
    await asyncio.to_thread(service.engine.drop_payload_index, request.path_params["collection"], path)
    return _changed(service, request)


async def add_vector(service: Service, request: Request) -> Response:
    """Add a named vector; no point has one yet, and the other vectors are not touched."""
    name, vector_name = request.path_params["collection"], request.path_params["vector"]
    wire = decode(await request.body(), AddVectorWire)
    vector = read_add_vector(wire, vector_name, service.models)
    try:
        await asyncio.to_thread(service.engine.add_vector, name, vector_name, vector)
    except VssError as error:
        # The engine speaks of the whole schema.
        raise located(error, "dense.size") if (error.field or "").endswith(".size") else error from None
    return _changed(service, request)


async def drop_vector(service: Service, request: Request) -> Response:
    """Drop a named vector from every point; the other vectors are not touched."""
    name, vector_name = request.path_params["collection"], request.path_params["vector"]
    schema = service.engine.entry(name).schema
    try:
        schema.vector(vector_name)
    except VssError as error:
        raise located(error, "vector_name") from None
    if len(schema.vectors) == 1:
        raise invalid("got the only vector, wanted one of several", field="vector_name", hint="delete the collection")
    await asyncio.to_thread(service.engine.drop_vector, name, vector_name)
    return _changed(service, request)


def _changed(service: Service, request: Request) -> Response:
    """Qdrant's answer to a write; the change of a schema has no sequence number, so it is that of the last write."""
    seq = service.engine.collection(request.path_params["collection"]).view().seq
    status = "completed" if read_flag(request, "wait") else "acknowledged"
    return answer(request, WrittenReply(operation_id=seq, status=status), vss={"seq": seq})


_ONE = "/collections/{collection}"

OPERATIONS = (
    Operation(
        method="PUT",
        path=_ONE + "/index",
        handler=create_payload_index,
        summary="Declare a payload field",
        tag="collections",
        query=WRITING,
        body=CreateIndexWire,
        result=WrittenReply,
        forwarded=True,
    ),
    Operation(
        method="DELETE",
        path=_ONE + "/index/{field:path}",
        handler=delete_payload_index,
        summary="Take a declaration back",
        tag="collections",
        query=WRITING,
        result=WrittenReply,
        forwarded=True,
    ),
    Operation(
        method="PUT",
        path=_ONE + "/vectors/{vector:path}",
        handler=add_vector,
        summary="Add a named vector",
        tag="collections",
        query=WRITING,
        body=AddVectorWire,
        result=WrittenReply,
        forwarded=True,
    ),
    Operation(
        method="DELETE",
        path=_ONE + "/vectors/{vector:path}",
        handler=drop_vector,
        summary="Drop a named vector",
        tag="collections",
        query=WRITING,
        result=WrittenReply,
        forwarded=True,
    ),
)
