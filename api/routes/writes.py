"""Writes of points: each is read whole, embedded where it has texts, and carried out in one commit, or not at all."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import WRITING, Operation
from api.requests import deadline_of, read_flag
from api.service import Service
from api.wire.base import Wire, decode, located
from api.wire.vectors import Draft
from api.wire.writes import (
    ClearPayloadWire,
    DeletePayloadWire,
    DeleteVectorsWire,
    DeleteWire,
    Drafted,
    OperationsWire,
    SetPayloadWire,
    Step,
    UpdateVectorsWire,
    UpsertWire,
    WrittenReply,
    read_clear_payload,
    read_delete,
    read_delete_payload,
    read_delete_vectors,
    read_operations,
    read_overwrite_payload,
    read_set_payload,
    read_update_vectors,
    read_upsert,
)
from vss.changes import Change
from vss.errors import VssError
from vss.protocols import Deadline
from vss.schema import Schema
from vss.types import Role
from vss.vectors import as_vectors

T = TypeVar("T")
W = TypeVar("W", bound=Wire)

LARGE_BODY = 1 << 14
"""Bytes from which a body is read in a thread: 16 KiB of vectors take about a millisecond."""


async def upsert_points(service: Service, request: Request) -> Response:
    """Write points whole; all of them or none. Answered when they are on disk."""
    return await _write(service, request, UpsertWire, read_upsert)


async def delete_points(service: Service, request: Request) -> Response:
    """Delete points by id or by filter; ids that do not exist are no error. Answered when it is on disk."""
    return await _write(service, request, DeleteWire, read_delete)


async def set_payload(service: Service, request: Request) -> Response:
    """Merge keys into payloads, at the top or below `key`. Vectors stay, those made of a text field too."""
    return await _write(service, request, SetPayloadWire, read_set_payload)


async def overwrite_payload(service: Service, request: Request) -> Response:
    """Replace payloads, or what stands at `key` of them."""
    return await _write(service, request, SetPayloadWire, read_overwrite_payload)


async def delete_payload(service: Service, request: Request) -> Response:
    """Remove keys from payloads."""
    return await _write(service, request, DeletePayloadWire, read_delete_payload)


async def clear_payload(service: Service, request: Request) -> Response:
    """Empty payloads."""
    return await _write(service, request, ClearPayloadWire, read_clear_payload)


async def update_vectors(service: Service, request: Request) -> Response:
    """Replace the vectors that are named; payloads and other vectors stay. Points that do not exist are left out."""
    return await _write(service, request, UpdateVectorsWire, read_update_vectors)


async def delete_vectors(service: Service, request: Request) -> Response:
    """Remove vectors by name."""
    return await _write(service, request, DeleteVectorsWire, read_delete_vectors)


async def batch_update(service: Service, request: Request) -> Response:
    """Carry out writes in order. What is wrong is found before any is done, but for a payload that grows too large:
    it ends the batch midway, and the error says how many writes were done."""
    wait = read_flag(request, "wait")

    def read(body: bytes, schema: Schema) -> list[Step]:
        return read_operations(decode(body, OperationsWire), schema)

    steps, seq = await _carry_out(service, request, read)
    return answer(request, [_written(seq, wait) for _ in steps], vss={"seq": seq})


async def _write(service: Service, request: Request, kind: type[W], reader: Callable[[W, Schema], Step]) -> Response:
    wait = read_flag(request, "wait")

    def read(body: bytes, schema: Schema) -> list[Step]:
        return [reader(decode(body, kind), schema)]

    _, seq = await _carry_out(service, request, read)
    return answer(request, _written(seq, wait), vss={"seq": seq})


async def _carry_out(
    service: Service, request: Request, read: Callable[[bytes, Schema], list[Step]]
) -> tuple[list[Step], int]:
    """Read a body, embed its texts, and write. The seq comes when all of it is on disk."""
    name = request.path_params["collection"]
    schema = service.engine.entry(name).schema
    body = await request.body()
    steps = await _maybe_in_thread(len(body), partial(read, body, schema))
    drafts = [step for step in steps if isinstance(step, Drafted)]
    for one in drafts:
        _check_fingerprint(service, one, schema)
    await _embed(service, name, [one.draft for one in drafts], schema, deadline_of(request))

    def write() -> Future[int]:
        changes: list[Change] = [step.change() if isinstance(step, Drafted) else step for step in steps]
        return service.engine.write(name, changes)

    written = await _maybe_in_thread(len(body), write)
    # A client that goes away meanwhile does not take its write back.
    return steps, await asyncio.shield(asyncio.wrap_future(written))


async def _maybe_in_thread(size: int, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if size > LARGE_BODY else work()


def _check_fingerprint(service: Service, step: Drafted, schema: Schema) -> None:
    if step.fingerprint is not None:
        wanted, where = step.fingerprint
        for vector in schema.vectors.values():
            try:
                service.check_fingerprint(vector, wanted)
            except VssError as error:
                raise located(error, where) from None


async def _embed(service: Service, name: str, drafts: Sequence[Draft], schema: Schema, deadline: Deadline) -> None:
    """Turn the texts of all drafts into vectors, those of one name together."""
    by_name: dict[str, list[tuple[Draft, int, str]]] = defaultdict(list)
    for draft in drafts:
        for place in draft.texts:
            by_name[place.name].append((draft, place.point, place.text))
    for using, places in by_name.items():
        known = schema.vectors[using]
        model = await service.text_model(name, using)
        made = await service.models.embed(model, [text for _, _, text in places], Role.DOCUMENT, deadline)
        try:
            vectors = as_vectors(made, known.dim, known.metric)
        except VssError as error:
            draft, point, _ = places[0]
            raise located(error, draft.place(point, using)) from error
        for (draft, point, _), vector in zip(places, vectors, strict=True):
            draft.vectors[point][using] = vector


def _written(seq: int, wait: bool) -> WrittenReply:
    return WrittenReply(operation_id=seq, status="completed" if wait else "acknowledged")


_ALL = "/collections/{collection}/points"


def _operation(method: str, path: str, handler: Any, summary: str, body: type[Wire], result: Any) -> Operation:
    return Operation(
        method=method,
        path=_ALL + path,
        handler=handler,
        summary=summary,
        tag="points",
        query=WRITING,
        body=body,
        result=result,
        forwarded=True,
    )


OPERATIONS = (
    _operation("PUT", "", upsert_points, "Write points", UpsertWire, WrittenReply),
    _operation("POST", "/delete", delete_points, "Delete points", DeleteWire, WrittenReply),
    _operation("POST", "/payload", set_payload, "Merge into payloads", SetPayloadWire, WrittenReply),
    _operation("PUT", "/payload", overwrite_payload, "Replace payloads", SetPayloadWire, WrittenReply),
    _operation("POST", "/payload/delete", delete_payload, "Remove payload keys", DeletePayloadWire, WrittenReply),
    _operation("POST", "/payload/clear", clear_payload, "Empty payloads", ClearPayloadWire, WrittenReply),
    _operation("PUT", "/vectors", update_vectors, "Replace vectors", UpdateVectorsWire, WrittenReply),
    _operation("POST", "/vectors/delete", delete_vectors, "Remove vectors", DeleteVectorsWire, WrittenReply),
    _operation("POST", "/batch", batch_update, "Several writes in order", OperationsWire, list[WrittenReply]),
)
