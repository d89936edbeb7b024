"""Points as requests send them: list form, with vectors ready or as texts for the collection's model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from api.wire.base import Harmless, Hints, Reply, Unsupported, Wire, exactly_one, refuse_unsupported, under
from api.wire.ids import read_id, read_ids
from api.wire.select import WithPayload, WithVector
from vss.errors import Code, VssError, invalid
from vss.points import check_payload
from vss.schema import DEFAULT_VECTOR, Schema, VectorSchema
from vss.types import PointId, Vectors
from vss.vectors import as_vectors

MAX_POINTS = 10_000
"""Points in one upsert."""


class Document(Wire):
    """A text for the model of the vector's schema."""

    text: str
    model: str | None = None
    options: Unsupported = None

    unsupported: ClassVar[Harmless] = {"options": ({},)}


NamedVectors = dict[str, list[float] | Document | str | None]
"""Vectors by name. An object whose `text` is a string is a `Document`: msgspec tells objects apart by type only."""


class VssWrite(Wire):
    """Our additions to a write."""

    fingerprint: str | None = None


class PointWire(Wire):
    """One point. `vector` is a list, `{name: list}`, or a Document in either place."""

    id: int | str
    vector: list[float] | NamedVectors | None = None
    payload: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class UpsertWire(Wire):
    """`PUT /collections/{collection}/points`."""

    points: list[PointWire] | None = None
    batch: Unsupported = None
    shard_key: Unsupported = None
    update_filter: Unsupported = None
    update_mode: Unsupported = None
    vss: VssWrite | None = None

    unsupported: ClassVar[Harmless] = {"batch": (), "shard_key": (), "update_filter": (), "update_mode": ("upsert",)}
    hints: ClassVar[Hints] = {"batch": 'send {"points": [{"id": 1, "vector": [...], "payload": {...}}]}'}


class DeleteWire(Wire):
    """`POST /collections/{collection}/points/delete`."""

    points: list[int | str] | None = None
    filter: Unsupported = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"filter": (), "shard_key": ()}
    hints: ClassVar[Hints] = {"filter": "a point may change while it is found: scroll with the filter, delete by ids"}


class RetrieveWire(Wire):
    """`POST /collections/{collection}/points`."""

    ids: list[int | str]
    with_payload: WithPayload = None
    with_vector: WithVector = None
    shard_key: Unsupported = None

    unsupported: ClassVar[Harmless] = {"shard_key": ()}


class RecordReply(Reply):
    """A point as it is stored."""

    id: int | str
    version: int = 0
    payload: msgspec.Raw | None = None
    vector: Any = None


class WrittenReply(msgspec.Struct, kw_only=True):
    """A write that is on disk. `operation_id` is its sequence number."""

    operation_id: int
    status: str


@dataclass(frozen=True, slots=True)
class TextPlace:
    """A text that a vector is to be made of: `points[point].vector`, the vector called `name`."""

    point: int
    name: str
    text: str


@dataclass(slots=True)
class Draft:
    """An upsert as it was read: everything checked, texts still to be embedded.

    vectors: for each point, name -> `(dim,)` float32
    """

    ids: list[PointId]
    payloads: list[bytes]
    vectors: list[dict[str, Vectors]]
    texts: list[TextPlace]


def read_upsert(wire: UpsertWire, schema: Schema) -> Draft:
    """Check a whole upsert. VssError (INVALID, TOO_LARGE, UNSUPPORTED) names the place: `points[3].vector`."""
    refuse_unsupported(wire)
    if wire.points is None:
        raise invalid("got nothing, wanted a list of points", field="points")
    if len(wire.points) > MAX_POINTS:
        raise VssError(
            Code.TOO_LARGE,
            f"got {len(wire.points)} points, wanted at most {MAX_POINTS}",
            field="points",
            hint="send them in several requests",
        )
    draft = Draft([], [], [{} for _ in wire.points], [])
    ready: dict[str, tuple[list[int], list[list[float]]]] = {name: ([], []) for name in schema.vectors}
    for place, point in enumerate(wire.points):
        where = f"points[{place}]"
        draft.ids.append(read_id(point.id, f"{where}.id"))
        draft.payloads.append(check_payload(bytes(point.payload), where=f"{where}.payload"))
        _sort_vectors(point, place, schema, ready, draft)
    for name, (places, values) in ready.items():
        if places:
            for place, vector in zip(places, _checked(name, schema.vectors[name], places, values), strict=True):
                draft.vectors[place][name] = vector
    return draft


def _sort_vectors(
    point: PointWire,
    place: int,
    schema: Schema,
    ready: dict[str, tuple[list[int], list[list[float]]]],
    draft: Draft,
) -> None:
    where = f"points[{place}].vector"
    vector = point.vector
    if isinstance(vector, list) or is_document(vector):
        vector = {DEFAULT_VECTOR: as_document(vector, where) if isinstance(vector, dict) else vector}
    for name, value in (vector or {}).items():
        at = under(where, name) if name else where
        known = schema.vectors.get(name)
        if known is None:
            names = ", ".join(repr(one) for one in schema.vectors)
            got = f"vector name {name!r}" if name else "a vector without a name"
            raise invalid(f"got {got}, wanted one of {names}", field=at)
        if isinstance(value, list):
            ready[name][0].append(place)
            ready[name][1].append(value)
        elif isinstance(value, Document):
            draft.texts.append(TextPlace(place, name, read_document(value, known, at)))
        elif value is not None:
            raise invalid("got a string, wanted numbers or a Document", field=at)
    _text_fields(draft, place, schema, vector or {})


def _text_fields(draft: Draft, place: int, schema: Schema, sent: object) -> None:
    """A vector that was not sent is made of the text that stands in the schema's text field."""
    assert isinstance(sent, dict)
    for name, known in schema.vectors.items():
        if known.model is None or known.text_field is None or sent.get(name) is not None:
            continue
        text = msgspec.json.decode(draft.payloads[place]).get(known.text_field)
        if isinstance(text, str):
            draft.texts.append(TextPlace(place, name, text))


def _checked(name: str, known: VectorSchema, places: list[int], values: list[list[float]]) -> Vectors:
    try:
        return as_vectors(values, known.dim, known.metric)
    except VssError:
        # Something is wrong somewhere; one by one shows where.
        for place, value in zip(places, values, strict=True):
            where = f"points[{place}].vector"
            as_vectors(value, known.dim, known.metric, field=under(where, name) if name else where)
        raise


def is_document(value: object) -> bool:
    """Whether an object of named vectors is a Document in truth."""
    return isinstance(value, dict) and isinstance(value.get("text"), str)


def as_document(value: NamedVectors, where: str) -> Document:
    """That Document. VssError (INVALID) names a member that a Document has not."""
    for name, member in value.items():
        if name not in Document.__struct_fields__:
            raise invalid("got a field that does not exist", field=under(where, name))
        if name in ("text", "model") and member is not None and not isinstance(member, str):
            raise invalid(f"got {type(member).__name__}, wanted str", field=under(where, name))
    text, model = value["text"], value.get("model")
    assert isinstance(text, str)
    return Document(text=text, model=model if isinstance(model, str) else None, options=value.get("options"))


def read_document(wire: Document, known: VectorSchema, where: str) -> str:
    """The text of a Document, when it is meant for the schema's model. VssError: INVALID, UNSUPPORTED."""
    refuse_unsupported(wire, where)
    if known.model is None:
        raise invalid(
            "got a text, but this vector has no model",
            field=where,
            hint='send numbers, or create the collection with {"vss": {"model": NAME}}',
        )
    if wire.model is not None and wire.model != known.model:
        raise invalid(f"got model {wire.model!r}, wanted {known.model!r}", field=under(where, "model"))
    return wire.text


def read_delete(wire: DeleteWire) -> tuple[PointId, ...]:
    """The ids to delete. VssError: INVALID, TOO_LARGE, UNSUPPORTED."""
    refuse_unsupported(wire)
    exactly_one(wire, ("points",), "points")
    return read_ids(wire.points or (), "points")


def read_retrieve(wire: RetrieveWire) -> Sequence[PointId]:
    """The ids to read. VssError: INVALID, TOO_LARGE, UNSUPPORTED."""
    refuse_unsupported(wire)
    return read_ids(wire.ids, "ids")
