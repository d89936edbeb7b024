"""Writes of points: each is read whole, embedded where it has texts, and carried out in one commit, or not at all.

With an `Idempotency-Key` a write that was carried out is not carried out again: its first answer is given.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.operations import WRITING, Operation
from api.requests import IDEMPOTENCY_KEY, deadline_of, digest, read_flag, read_key
from api.service import Service
from api.wire.base import Wire, decode, located
from api.wire.items import refused_items, report
from api.wire.upserts import (
    Drafted,
    UpdateVectorsWire,
    UpsertWire,
    decode_update_vectors,
    decode_upsert,
    read_update_vectors,
    read_upsert,
)
from api.wire.vectors import Draft
from api.wire.writes import (
    ClearPayloadWire,
    DeletePayloadWire,
    DeleteVectorsWire,
    DeleteWire,
    OperationsWire,
    SetPayloadWire,
    Step,
    WrittenReply,
    is_dry_run,
    read_clear_payload,
    read_delete,
    read_delete_payload,
    read_delete_vectors,
    read_operations,
    read_overwrite_payload,
    read_set_payload,
)
from vss.errors import VssError
from vss.protocols import Deadline
from vss.schema import Schema
from vss.storage.answers import Answer
from vss.types import Role
from vss.vectors import as_vectors

T = TypeVar("T")
W = TypeVar("W", bound=Wire)

LARGE_BODY = 1 << 14
"""Bytes from which a body is read in a thread: 16 KiB of vectors take about a millisecond."""


async def upsert_points(service: Service, request: Request) -> Response:
    """Write points whole; of several of one id the last. All of them or none, unless `vss.on_error` is `skip`.

    Answered when they are on disk. An error lists in `vss.items` each point that is wrong; with `skip` the answer does.
    """

    def read(body: bytes, schema: Schema) -> Asked:
        wire, unread = decode_upsert(body)
        return Asked([read_upsert(wire, schema, unread=unread)], is_dry_run(wire))

    return await _write(service, request, read)


async def delete_points(service: Service, request: Request) -> Response:
    """Delete points by id or by filter; ids that do not exist are no error. Answered when it is on disk."""
    return await _write(service, request, _reader(DeleteWire, read_delete))


async def set_payload(service: Service, request: Request) -> Response:
    """Merge keys into payloads, at the top or below `key`. Vectors stay, those made of a text field too."""
    return await _write(service, request, _reader(SetPayloadWire, read_set_payload))


async def overwrite_payload(service: Service, request: Request) -> Response:
    """Replace payloads, or what stands at `key` of them."""
    return await _write(service, request, _reader(SetPayloadWire, read_overwrite_payload))


async def delete_payload(service: Service, request: Request) -> Response:
    """Remove keys from payloads."""
    return await _write(service, request, _reader(DeletePayloadWire, read_delete_payload))


async def clear_payload(service: Service, request: Request) -> Response:
    """Empty payloads."""
    return await _write(service, request, _reader(ClearPayloadWire, read_clear_payload))


async def update_vectors(service: Service, request: Request) -> Response:
    """Replace the vectors that are named; payloads and other vectors stay. Points that do not exist are left out."""

    def read(body: bytes, schema: Schema) -> Asked:
        wire, unread = decode_update_vectors(body)
        return Asked([read_update_vectors(wire, schema, unread=unread)], is_dry_run(wire))

    return await _write(service, request, read)


async def delete_vectors(service: Service, request: Request) -> Response:
    """Remove vectors by name."""
    return await _write(service, request, _reader(DeleteVectorsWire, read_delete_vectors))


async def batch_update(service: Service, request: Request) -> Response:
    """Carry out writes in order. What is wrong is found before any is done, but for a payload that grows too large:
    it ends the batch midway, and the error says how many writes were done."""

    def read(body: bytes, schema: Schema) -> Asked:
        return Asked(read_operations(decode(body, OperationsWire), schema), batch=True)

    return await _write(service, request, read)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: to carry out steps in order, or (`dry_run`) to say what the only one would do."""

    steps: Sequence[Step]
    dry_run: bool = False
    batch: bool = False

    def drafts(self) -> list[Drafted]:
        """The steps whose points are still drafts."""
        return [step for step in self.steps if isinstance(step, Drafted)]

    def report(self) -> dict[str, Any]:
        """What the answer says beside the result: how many steps a batch had, and which points were skipped."""
        drafted = [(place, one) for place, one in enumerate(self.steps) if isinstance(one, Drafted)]
        said: dict[str, Any] = {"operations": len(self.steps) if self.batch else None}
        if not any(one.skipping for _, one in drafted):
            return said
        items = [
            item
            for place, one in drafted
            for item in refused_items(one.draft.bad, one.draft.ids, place if self.batch else None)
        ]
        return said | report(items, sum(len(one.draft.ids) for _, one in drafted) - len(items))


def _reader(kind: type[W], reader: Callable[[W, Schema], Step]) -> Callable[[bytes, Schema], Asked]:
    def read(body: bytes, schema: Schema) -> Asked:
        wire = decode(body, kind)
        return Asked([reader(wire, schema)], is_dry_run(wire))

    return read


async def _write(service: Service, request: Request, read: Callable[[bytes, Schema], Asked]) -> Response:
    """Read a body, embed its texts, write, and answer when all of it is on disk."""
    name = request.path_params["collection"]
    schema = service.engine.entry(name).schema
    wait = read_flag(request, "wait")
    body = await request.body()
    key = read_key(request)
    once = None
    if key is not None:
        once = Answer(key=key, digest=digest(request, body))
        known = await asyncio.to_thread(service.engine.remembered, name, once.key, once.digest)
        if known is not None and known.done == known.whole:
            return _written(request, known.seq, wait, msgspec.json.decode(known.report), replayed=True)
    deadline = deadline_of(request)

    def write(asked: Asked) -> Future[int]:
        changes = [step.change() if isinstance(step, Drafted) else step for step in asked.steps]
        answered = once
        if once is not None:
            answered = msgspec.structs.replace(once, report=msgspec.json.encode(asked.report()))
        return service.engine.write(name, changes, answered)

    def preview(asked: Asked) -> Response:
        (step,) = asked.steps
        points = service.engine.preview(name, step.change() if isinstance(step, Drafted) else step)
        seq = service.engine.collection(name).view().seq
        return _written(request, seq, wait, asked.report() | {"dry_run": True, "points": points})

    def begin() -> tuple[Asked, Future[int] | None]:
        """Read the body, and write at once what waits for no model: each change of threads waits for its turn."""
        asked = read(body, schema)
        for one in asked.drafts():
            _check_fingerprint(service, one, schema)
        waits = asked.dry_run or any(one.draft.texts for one in asked.drafts())
        return asked, None if waits else write(asked)

    asked, written = await _maybe_in_thread(len(body), begin)
    if written is None:
        await _embed(service, name, [one.draft for one in asked.drafts()], schema, deadline)
        if asked.dry_run:
            return await asyncio.to_thread(preview, asked)
        written = await _maybe_in_thread(len(body), partial(write, asked))
    # A client that goes away meanwhile does not take its write back.
    return _written(request, await asyncio.shield(asyncio.wrap_future(written)), wait, asked.report())


def _written(request: Request, seq: int, wait: bool, said: dict[str, Any], *, replayed: bool = False) -> Response:
    one = WrittenReply(operation_id=seq, status="completed" if wait else "acknowledged")
    operations = said.get("operations")
    vss = {"seq": seq} | {name: value for name, value in said.items() if name != "operations"}
    if replayed:
        vss["replayed"] = True
    return answer(request, one if operations is None else [one] * operations, vss=vss)


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


_ALL = "/collections/{collection}/points"


def _operation(method: str, path: str, handler: Any, summary: str, body: type[Wire], result: Any) -> Operation:
    return Operation(
        method=method,
        path=_ALL + path,
        handler=handler,
        summary=summary,
        tag="points",
        query=WRITING,
        headers=(IDEMPOTENCY_KEY,),
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
