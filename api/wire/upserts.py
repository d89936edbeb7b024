"""Writes of whole points and of vectors: each becomes a draft, which knows the points that cannot be taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec

from api.wire.base import Harmless, Unsupported, Wire, decode, exactly_one, located, refuse_unsupported, under
from api.wire.filters import FilterWire, read_filter
from api.wire.ids import read_id
from api.wire.items import OnError, RefusedItems
from api.wire.payloads import read_payload
from api.wire.vectors import Document, Draft, VectorWire
from vss.changes import Change, UpdateMode, UpdateVectors, Upsert
from vss.errors import Code, VssError, invalid
from vss.points import EMPTY_PAYLOAD, Point, id_key
from vss.schema import DEFAULT_VECTOR, Schema
from vss.types import PointId

MAX_POINTS = 10_000
"""Points in one request, the operations of a batch taken together."""


class VssWrite(Wire):
    """Our additions to a write of points.

    fingerprint: of the model that the client counts on
    on_error:    `refuse` (all or nothing) or `skip`: write the points that can be taken, and list the others
    dry_run:     say how many points it would write, and write none
    """

    fingerprint: str | None = None
    on_error: OnError = OnError.REFUSE
    dry_run: bool = False


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
    """`PUT /collections/{collection}/points`: exactly one of `points` and `batch`.

    update_mode:   `upsert`, `insert_only` (points that exist stay as they are) or `update_only` (new ones are left out)
    update_filter: points that exist and do not pass stay as they are
    """

    points: list[PointWire] | None = None
    batch: ColumnsWire | None = None
    shard_key: Unsupported = None
    update_filter: FilterWire | None = None
    update_mode: UpdateMode | None = None
    vss: VssWrite | None = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class PointVectorsWire(Wire):
    """The vectors to replace of one point."""

    id: int | str
    vector: VectorWire


class UpdateVectorsWire(Wire):
    """`PUT /collections/{collection}/points/vectors`. Points that do not pass `update_filter` stay as they are."""

    points: list[PointVectorsWire]
    shard_key: Unsupported = None
    update_filter: FilterWire | None = None
    vss: VssWrite | None = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


@dataclass(frozen=True, slots=True)
class Drafted:
    """A change whose points are still a draft.

    make:        the change, of the points that can be taken
    fingerprint: what the request insists on, and where it says so
    skipping:    whether it was asked to leave out the points that cannot be taken; else there are none such
    """

    make: Callable[[list[Point]], Change]
    draft: Draft
    fingerprint: tuple[str, str] | None
    skipping: bool

    def change(self) -> Change:
        """The change, once every text has become a vector."""
        return self.make(self.draft.points())


Unread = Mapping[int, tuple[PointId | None, VssError]]
"""Points that could not even be read: place -> their id, where there is one, and why."""

W = TypeVar("W", UpsertWire, UpdateVectorsWire)


def decode_upsert(body: bytes) -> tuple[UpsertWire, Unread]:
    """An upsert; points of another shape are noted, not raised. VssError (INVALID) about anything else."""
    return _decode(body, UpsertWire, PointWire, PointWire(id=0))


def decode_update_vectors(body: bytes) -> tuple[UpdateVectorsWire, Unread]:
    """The same of new vectors."""
    return _decode(body, UpdateVectorsWire, PointVectorsWire, PointVectorsWire(id=0, vector=None))


def _decode(body: bytes, kind: type[W], item: type[Any], nothing: Any) -> tuple[W, Unread]:
    try:
        return decode(body, kind), {}
    except VssError as error:
        try:
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            raws = msgspec.json.decode(members.pop("points"), type=list[msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
            raise error from None
        wire = decode(msgspec.json.encode(members | {"points": []}), kind)
        unread: dict[int, tuple[PointId | None, VssError]] = {}
        points = []
        for number, raw in enumerate(raws):
            try:
                points.append(decode(bytes(raw), item))
            except VssError as wrong:
                where = f"points[{number}]"
                field = where if wrong.field in (None, "body") else under(where, wrong.field or "")
                unread[number] = (_id_of(raw), located(wrong, field))
                points.append(nothing)
        if not unread:
            raise error
        wire.points = points
        return wire, unread


class _Id(msgspec.Struct):
    id: int | str | None = None


def _id_of(raw: msgspec.Raw) -> PointId | None:
    try:
        return msgspec.json.decode(raw, type=_Id).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_upsert(wire: UpsertWire, schema: Schema, where: str = "", unread: Unread = {}) -> Drafted:  # noqa: B006
    """Check a whole upsert. VssError (INVALID, TOO_LARGE, UNSUPPORTED) names the place: `points[3].vector`.

    Raises RefusedItems when points are wrong, unless it was asked to skip them and some are not.
    """
    refuse_unsupported(wire, where)
    passing = read_filter(wire.update_filter, under(where, "update_filter"))
    if exactly_one(wire, ("points", "batch"), under(where, "points")) == "batch":
        assert wire.batch is not None
        draft = _columns(wire.batch, schema, under(where, "batch"))
    else:
        draft = _list(wire.points or [], schema, under(where, "points"), unread)
    draft.take_text_fields()
    mode = wire.update_mode or UpdateMode.UPSERT
    return _drafted(lambda points: Upsert(points, mode, passing), draft, wire.vss, where)


def _drafted(make: Callable[[list[Point]], Change], draft: Draft, vss: VssWrite | None, where: str) -> Drafted:
    draft.finish()
    skipping = vss is not None and vss.on_error is OnError.SKIP
    if draft.bad and (not skipping or len(draft.bad) == len(draft.ids)):
        raise RefusedItems(draft.bad, draft.ids)
    fingerprint = None
    if vss is not None and vss.fingerprint is not None:
        fingerprint = vss.fingerprint, under(where, "vss.fingerprint")
    return Drafted(make, draft, fingerprint, skipping)


def check_count(count: int, where: str) -> None:
    """VssError (TOO_LARGE) for more points than a request may have."""
    if count > MAX_POINTS:
        raise VssError(
            Code.TOO_LARGE,
            f"got {count} points, wanted at most {MAX_POINTS}",
            field=where,
            hint="send them in several requests",
        )


def _draft(points: Sequence[PointWire | PointVectorsWire], schema: Schema, where: str, unread: Unread) -> Draft:
    """A draft of points whose ids are read."""
    check_count(len(points), where)

    def place(point: int, name: str) -> str:
        return under(f"{where}[{point}].vector", name) if name else f"{where}[{point}].vector"

    draft = Draft(schema, [point.id for point in points], place)
    for number, (id_, error) in unread.items():
        draft.ids[number] = id_
        draft.refuse(number, error)
    for number, point in enumerate(points):
        if number not in draft.bad:
            try:
                id_key(point.id)
            except VssError as error:
                draft.refuse(number, located(error, f"{where}[{number}].id"))
    return draft


def _list(points: Sequence[PointWire], schema: Schema, where: str, unread: Unread) -> Draft:
    draft = _draft(points, schema, where, unread)
    for number, point in enumerate(points):
        payload = EMPTY_PAYLOAD
        if number not in draft.bad:
            try:
                payload = read_payload(point.payload, f"{where}[{number}].payload")
                draft.add(number, point.vector)
            except VssError as error:
                draft.refuse(number, error)
        draft.payloads.append(payload)
    return draft


def _columns(wire: ColumnsWire, schema: Schema, where: str) -> Draft:
    check_count(len(wire.ids), under(where, "ids"))
    at = under(where, "vectors")

    def place(point: int, name: str) -> str:
        return f"{under(at, name) if name else at}[{point}]"

    columns = {DEFAULT_VECTOR: wire.vectors} if isinstance(wire.vectors, list) else wire.vectors
    draft = Draft(schema, list(wire.ids), place)
    payloads = [msgspec.Raw()] * len(wire.ids) if wire.payloads is None else wire.payloads
    for name, column in columns.items():
        here = under(at, name) if name else at
        draft.known(name, lambda here=here: here)  # type: ignore[misc]
        _check_length(len(column), len(wire.ids), here)
    _check_length(len(payloads), len(wire.ids), under(where, "payloads"))
    for point, (id_, payload) in enumerate(zip(wire.ids, payloads, strict=True)):
        checked = EMPTY_PAYLOAD
        try:
            read_id(id_, f"{under(where, 'ids')}[{point}]")
            checked = read_payload(payload, f"{under(where, 'payloads')}[{point}]")
            for name, column in columns.items():
                draft.add_one(point, name, column[point])
        except VssError as error:
            draft.refuse(point, error)
        draft.payloads.append(checked)
    return draft


def _check_length(got: int, wanted: int, where: str) -> None:
    if got != wanted:
        raise invalid(f"got {got} values for {wanted} ids, wanted one for each", field=where)


def read_update_vectors(
    wire: UpdateVectorsWire,
    schema: Schema,
    where: str = "",
    unread: Unread = {},  # noqa: B006
) -> Drafted:
    """Vectors to replace. A point that names none, or null, is refused: nothing would happen to it."""
    refuse_unsupported(wire, where)
    passing = read_filter(wire.update_filter, under(where, "update_filter"))
    at = under(where, "points")
    draft = _draft(wire.points, schema, at, unread)
    for number, point in enumerate(wire.points):
        if number in draft.bad:
            continue
        named = point.vector.values() if isinstance(point.vector, dict) else (point.vector,)
        try:
            if not named or any(value is None for value in named):
                raise invalid(
                    "got no vector, wanted at least one",
                    field=draft.place(number, ""),
                    hint="POST points/vectors/delete removes vectors",
                )
            draft.add(number, point.vector)
        except VssError as error:
            draft.refuse(number, error)
    return _drafted(lambda points: UpdateVectors(points, passing), draft, wire.vss, where)
