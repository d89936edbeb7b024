"""Writes: each request becomes steps, which are changes of `vss.changes`, or drafts of points (`api.wire.upserts`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from api.wire.base import Harmless, Unsupported, Wire, exactly_one, refuse_unsupported, under, unsupported
from api.wire.filters import FilterWire, read_filter
from api.wire.ids import read_ids
from api.wire.payloads import read_path, read_values
from api.wire.upserts import (
    Drafted,
    UpdateVectorsWire,
    UpsertWire,
    VssWrite,
    check_count,
    read_update_vectors,
    read_upsert,
)
from vss.changes import Change, Delete, DeleteVectors, PatchPayload, Selector
from vss.errors import Code, VssError, invalid
from vss.filters import Filter
from vss.patches import PayloadPatch
from vss.schema import Schema

MAX_OPERATIONS = 1_000
"""Operations in one batch."""

MAX_KEYS = 1_000
"""Payload keys or vector names in one request."""


class VssChange(Wire):
    """Our additions to a write that chooses points. dry_run: say how many points it would change, and change none."""

    dry_run: bool = False


class SelectorWire(Wire):
    """Exactly one of `points` (ids) and `filter`."""

    points: list[int | str] | None = None
    filter: FilterWire | None = None
    shard_key: Unsupported = None
    vss: VssChange | None = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class DeleteWire(SelectorWire):
    """`POST /collections/{collection}/points/delete`: exactly one of `points` (ids) and `filter`."""


class ClearPayloadWire(SelectorWire):
    """`POST /collections/{collection}/points/payload/clear`: exactly one of `points` (ids) and `filter`."""


class SetPayloadWire(SelectorWire, kw_only=True):
    """`POST` (merge) and `PUT` (overwrite) `/collections/{collection}/points/payload`, at `key` or at the top."""

    payload: dict[str, Any]
    key: str | None = None


class DeletePayloadWire(SelectorWire, kw_only=True):
    """`POST /collections/{collection}/points/payload/delete`. Keys are paths: `a.b`, `a[].b`."""

    keys: list[str]


class DeleteVectorsWire(SelectorWire, kw_only=True):
    """`POST /collections/{collection}/points/vectors/delete`: names of vectors, and which points lose them."""

    vector: list[str]


class OperationWire(Wire):
    """Exactly one write."""

    upsert: UpsertWire | None = None
    delete: DeleteWire | None = None
    set_payload: SetPayloadWire | None = None
    overwrite_payload: SetPayloadWire | None = None
    delete_payload: DeletePayloadWire | None = None
    clear_payload: ClearPayloadWire | None = None
    update_vectors: UpdateVectorsWire | None = None
    delete_vectors: DeleteVectorsWire | None = None


class OperationsWire(Wire):
    """`POST /collections/{collection}/points/batch`: writes carried out in order, all of them or none."""

    operations: list[OperationWire]


class WrittenReply(msgspec.Struct, kw_only=True):
    """A write that is on disk. `operation_id` is its sequence number."""

    operation_id: int
    status: str


Step = Change | Drafted


def is_dry_run(wire: Wire) -> bool:
    """Whether a write only asks what it would do."""
    vss: VssWrite | VssChange | None = getattr(wire, "vss", None)
    return vss is not None and vss.dry_run


def read_selector(wire: SelectorWire, where: str = "") -> Selector:
    """Which points a write is about. VssError: INVALID, TOO_LARGE, UNSUPPORTED."""
    refuse_unsupported(wire, where)
    if exactly_one(wire, ("points", "filter"), under(where, "points")) == "points":
        return read_ids(wire.points or (), under(where, "points"))
    found = read_filter(wire.filter, under(where, "filter"))
    return Filter() if found is None else found


def read_delete(wire: DeleteWire, schema: Schema, where: str = "") -> Step:
    """Points to delete."""
    return Delete(read_selector(wire, where))


def read_set_payload(wire: SetPayloadWire, schema: Schema, where: str = "") -> Step:
    """Payload keys to merge."""
    return _set_payload(wire, where, overwrite=False)


def read_overwrite_payload(wire: SetPayloadWire, schema: Schema, where: str = "") -> Step:
    """Payloads to replace."""
    return _set_payload(wire, where, overwrite=True)


def _set_payload(wire: SetPayloadWire, where: str, *, overwrite: bool) -> Step:
    values = read_values(wire.payload, under(where, "payload"))
    key = None if wire.key is None else read_path(wire.key, under(where, "key"))
    return PatchPayload(read_selector(wire, where), PayloadPatch(set=values, overwrite=overwrite, key=key))


def read_delete_payload(wire: DeletePayloadWire, schema: Schema, where: str = "") -> Step:
    """Payload keys to remove."""
    _check_names(wire.keys, under(where, "keys"))
    keys = tuple(read_path(key, f"{under(where, 'keys')}[{place}]") for place, key in enumerate(wire.keys))
    return PatchPayload(read_selector(wire, where), PayloadPatch(delete=keys))


def read_clear_payload(wire: ClearPayloadWire, schema: Schema, where: str = "") -> Step:
    """Payloads to empty."""
    return PatchPayload(read_selector(wire, where), PayloadPatch(clear=True))


def read_delete_vectors(wire: DeleteVectorsWire, schema: Schema, where: str = "") -> Step:
    """Vectors to remove."""
    at = under(where, "vector")
    _check_names(wire.vector, at)
    for place, name in enumerate(wire.vector):
        if name not in schema.vectors:
            known = ", ".join(repr(one) for one in schema.vectors)
            raise invalid(f"got vector name {name!r}, wanted one of {known}", field=f"{at}[{place}]")
    return DeleteVectors(read_selector(wire, where), tuple(wire.vector))


def _check_names(names: Sequence[str], where: str) -> None:
    if not 1 <= len(names) <= MAX_KEYS:
        raise invalid(f"got {len(names)} names, wanted 1 to {MAX_KEYS}", field=where)


Kind = Literal[
    "upsert",
    "delete",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "clear_payload",
    "update_vectors",
    "delete_vectors",
]
"""Members of `OperationWire`."""

READERS: dict[str, Any] = {
    "upsert": read_upsert,
    "delete": read_delete,
    "set_payload": read_set_payload,
    "overwrite_payload": read_overwrite_payload,
    "delete_payload": read_delete_payload,
    "clear_payload": read_clear_payload,
    "update_vectors": read_update_vectors,
    "delete_vectors": read_delete_vectors,
}


def read_operations(wire: OperationsWire, schema: Schema) -> list[Step]:
    """Check a whole batch. VssError (INVALID, TOO_LARGE, UNSUPPORTED): `operations[2].upsert.points[0].id`."""
    if len(wire.operations) > MAX_OPERATIONS:
        raise VssError(
            Code.TOO_LARGE,
            f"got {len(wire.operations)} operations, wanted at most {MAX_OPERATIONS}",
            field="operations",
            hint="send them in several requests",
        )
    steps = []
    for place, one in enumerate(wire.operations):
        where = f"operations[{place}]"
        kind = exactly_one(one, tuple(READERS), where)
        write = getattr(one, kind)
        if is_dry_run(write):
            raise unsupported(f"{where}.{kind}.vss.dry_run", hint="ask about one write, outside a batch")
        step: Step = READERS[kind](write, schema, f"{where}.{kind}")
        steps.append(step)
    check_count(sum(len(step.draft.ids) for step in steps if isinstance(step, Drafted)), "operations")
    return steps
