"""Writes: each request becomes steps, which are changes of `vss.changes`, or drafts of points with texts to embed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from api.wire.base import Harmless, Unsupported, Wire, exactly_one, refuse_unsupported, under
from api.wire.filters import FilterWire, read_filter
from api.wire.ids import read_id, read_ids
from api.wire.payloads import read_path, read_payload, read_values
from api.wire.vectors import Document, Draft, VectorWire
from vss.changes import Change, Delete, DeleteVectors, PatchPayload, Selector, UpdateVectors, Upsert
from vss.errors import Code, VssError, invalid
from vss.filters import Filter
from vss.patches import PayloadPatch
from vss.schema import DEFAULT_VECTOR, Schema

MAX_POINTS = 10_000
"""Points in one request, the operations of a batch taken together."""

MAX_OPERATIONS = 1_000
"""Operations in one batch."""

MAX_KEYS = 1_000
"""Payload keys or vector names in one request."""


class VssWrite(Wire):
    """Our additions to a write."""

    fingerprint: str | None = None


class PointWire(Wire):
    """One point. `vector` is a list, `{name: list}`, or a Document in either place."""

    id: int | str
    vector: VectorWire = None
    payload: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class ColumnsWire(Wire):
    """Points as columns of one length. `vectors` is a list, or `{name: list}` with null where a point has none."""

    ids: list[int | str]
    vectors: list[list[float] | Document] | dict[str, list[list[float] | Document | None]]
    payloads: list[msgspec.Raw] | None = None


class UpsertWire(Wire):
    """`PUT /collections/{collection}/points`: exactly one of `points` and `batch`."""

    points: list[PointWire] | None = None
    batch: ColumnsWire | None = None
    shard_key: Unsupported = None
    update_filter: Unsupported = None
    update_mode: Unsupported = None
    vss: VssWrite | None = None

    unsupported: ClassVar[Harmless] = {"shard_key": (), "update_filter": (), "update_mode": ("upsert",)}


class SelectorWire(Wire):
    """Exactly one of `points` (ids) and `filter`."""

    points: list[int | str] | None = None
    filter: FilterWire | None = None
    shard_key: Unsupported = None

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


class PointVectorsWire(Wire):
    """The vectors to replace of one point."""

    id: int | str
    vector: VectorWire


class UpdateVectorsWire(Wire):
    """`PUT /collections/{collection}/points/vectors`."""

    points: list[PointVectorsWire]
    shard_key: Unsupported = None
    update_filter: Unsupported = None
    vss: VssWrite | None = None

    unsupported: ClassVar[Harmless] = {"shard_key": (), "update_filter": ()}


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


@dataclass(frozen=True, slots=True)
class Drafted:
    """A change whose points are still a draft."""

    kind: type[Upsert] | type[UpdateVectors]
    draft: Draft
    fingerprint: tuple[str, str] | None
    """What the request insists on, and where it says so."""

    def change(self) -> Change:
        """The change, once every text has become a vector."""
        return self.kind(self.draft.points())


Step = Change | Drafted


def read_upsert(wire: UpsertWire, schema: Schema, where: str = "") -> Step:
    """Check a whole upsert. VssError (INVALID, TOO_LARGE, UNSUPPORTED) names the place: `points[3].vector`."""
    refuse_unsupported(wire, where)
    if exactly_one(wire, ("points", "batch"), under(where, "points")) == "batch":
        assert wire.batch is not None
        draft = _columns(wire.batch, schema, under(where, "batch"))
    else:
        draft = _list(wire.points or [], schema, under(where, "points"))
    draft.take_text_fields()
    return Drafted(Upsert, draft.finish(), _fingerprint(wire.vss, where))


def _fingerprint(wire: VssWrite | None, where: str) -> tuple[str, str] | None:
    if wire is None or wire.fingerprint is None:
        return None
    return wire.fingerprint, under(where, "vss.fingerprint")


def _check_count(count: int, where: str) -> None:
    if count > MAX_POINTS:
        raise VssError(
            Code.TOO_LARGE,
            f"got {count} points, wanted at most {MAX_POINTS}",
            field=where,
            hint="send them in several requests",
        )


def _list(points: Sequence[PointWire], schema: Schema, where: str) -> Draft:
    _check_count(len(points), where)

    def place(point: int, name: str) -> str:
        return under(f"{where}[{point}].vector", name) if name else f"{where}[{point}].vector"

    ids = [read_id(point.id, f"{where}[{number}].id") for number, point in enumerate(points)]
    draft = Draft(schema, ids, place)
    for number, point in enumerate(points):
        draft.payloads.append(read_payload(point.payload, f"{where}[{number}].payload"))
        draft.add(number, point.vector)
    return draft


def _columns(wire: ColumnsWire, schema: Schema, where: str) -> Draft:
    _check_count(len(wire.ids), under(where, "ids"))
    at = under(where, "vectors")

    def place(point: int, name: str) -> str:
        return f"{under(at, name) if name else at}[{point}]"

    columns = {DEFAULT_VECTOR: wire.vectors} if isinstance(wire.vectors, list) else wire.vectors
    draft = Draft(schema, read_ids(wire.ids, under(where, "ids")), place)
    for name, column in columns.items():
        here = under(at, name) if name else at
        draft.known(name, lambda here=here: here)  # type: ignore[misc]
        _check_length(len(column), len(wire.ids), here)
        for point, value in enumerate(column):
            draft.add_one(point, name, value)
    payloads = [msgspec.Raw()] * len(wire.ids) if wire.payloads is None else wire.payloads
    here = under(where, "payloads")
    _check_length(len(payloads), len(wire.ids), here)
    draft.payloads = [read_payload(payload, f"{here}[{point}]") for point, payload in enumerate(payloads)]
    return draft


def _check_length(got: int, wanted: int, where: str) -> None:
    if got != wanted:
        raise invalid(f"got {got} values for {wanted} ids, wanted one for each", field=where)


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


def read_update_vectors(wire: UpdateVectorsWire, schema: Schema, where: str = "") -> Step:
    """Vectors to replace. A point that names none, or null, is refused: nothing would happen to it."""
    refuse_unsupported(wire, where)
    at = under(where, "points")
    _check_count(len(wire.points), at)

    def place(point: int, name: str) -> str:
        return under(f"{at}[{point}].vector", name) if name else f"{at}[{point}].vector"

    draft = Draft(schema, [read_id(point.id, f"{at}[{number}].id") for number, point in enumerate(wire.points)], place)
    for number, point in enumerate(wire.points):
        named = point.vector.values() if isinstance(point.vector, dict) else (point.vector,)
        if not named or any(value is None for value in named):
            raise invalid(
                "got no vector, wanted at least one",
                field=place(number, ""),
                hint="POST points/vectors/delete removes vectors",
            )
        draft.add(number, point.vector)
    return Drafted(UpdateVectors, draft.finish(), _fingerprint(wire.vss, where))


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
        step: Step = READERS[kind](getattr(one, kind), schema, f"{where}.{kind}")
        steps.append(step)
    _check_count(sum(len(step.draft.ids) for step in steps if isinstance(step, Drafted)), "operations")
    return steps
