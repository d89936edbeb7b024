"""Vectors in writes: ready ones and texts for the collection's model, checked by name and all at once."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.wire.base import Harmless, Unsupported, Wire, refuse_unsupported, under
from vss.errors import VssError, invalid
from vss.points import EMPTY_PAYLOAD, Point
from vss.schema import DEFAULT_VECTOR, Schema, VectorSchema
from vss.types import PointId, Vectors
from vss.vectors import as_vectors


class Document(Wire):
    """A text for the model of the vector's schema. The other members are those of vectors that we do not have."""

    text: str | None = None
    model: str | None = None
    options: Unsupported = None
    image: Unsupported = None
    object: Unsupported = None
    indices: Unsupported = None
    values: Unsupported = None

    unsupported: ClassVar[Harmless] = {"options": ({},)} | dict.fromkeys(("image", "object", "indices", "values"), ())


NamedVectors = dict[str, list[float] | Document | str | None]
"""Vectors by name. An object whose `text` is a string is a `Document`: msgspec tells objects apart by type only."""

VectorWire = list[float] | NamedVectors | None


@dataclass(frozen=True, slots=True)
class TextPlace:
    """A text that the vector called `name` of point number `point` is to be made of."""

    point: int
    name: str
    text: str


class Draft:
    """Points as they were read: vectors checked by `finish`, texts still to be embedded.

    place:    (point, vector name) -> path of that vector in the request
    vectors:  for each point, name -> `(dim,)` float32
    payloads: JSON bytes for each point; none where only vectors are written
    ids:      None only where a bad point's could not be read
    bad:      point -> the first thing that is wrong with it; it is left out of what comes of the draft
    """

    def __init__(self, schema: Schema, ids: list[PointId | None], place: Callable[[int, str], str]) -> None:
        self.schema = schema
        self.ids = ids
        self.place = place
        self.payloads: list[bytes] = []
        self.vectors: list[dict[str, Vectors]] = [{} for _ in ids]
        self.texts: list[TextPlace] = []
        self.bad: dict[int, VssError] = {}
        self._ready: dict[str, tuple[list[int], list[list[float]]]] = {name: ([], []) for name in schema.vectors}

    def refuse(self, point: int, error: VssError) -> None:
        """Note what is wrong with a point."""
        self.bad.setdefault(point, error)

    def add(self, point: int, vector: VectorWire) -> None:
        """Take one point's vectors: a list, a Document, or either by name. VssError (INVALID, UNSUPPORTED)."""
        if isinstance(vector, list):
            self.add_one(point, DEFAULT_VECTOR, vector)
        elif vector is not None and _is_document(vector):
            self.add_one(point, DEFAULT_VECTOR, _as_document(vector, self.place(point, DEFAULT_VECTOR)))
        else:
            for name, value in (vector or {}).items():
                self.add_one(point, name, value)

    def add_one(self, point: int, name: str, value: list[float] | Document | str | None) -> None:
        """Take one vector by name; None is one that the point does not have."""
        known = self.known(name, lambda: self.place(point, name))
        if isinstance(value, list):
            places, values = self._ready[name]
            places.append(point)
            values.append(value)
        elif isinstance(value, Document):
            self.texts.append(TextPlace(point, name, read_document(value, known, self.place(point, name))))
        elif value is not None:
            raise invalid("got a string, wanted numbers or a Document", field=self.place(point, name))

    def known(self, name: str, where: Callable[[], str]) -> VectorSchema:
        """The schema of a name. VssError (INVALID) names those that exist."""
        known = self.schema.vectors.get(name)
        if known is None:
            names = ", ".join(repr(one) for one in self.schema.vectors)
            got = f"vector name {name!r}" if name else "a vector without a name"
            raise invalid(f"got {got}, wanted one of {names}", field=where())
        return known

    def take_text_fields(self) -> None:
        """A vector that was not sent is made of the text that stands in the schema's text field."""
        sent = {(text.point, text.name) for text in self.texts}
        for name, known in self.schema.vectors.items():
            if known.model is None or known.text_field is None:
                continue
            sent |= {(point, name) for point in self._ready[name][0]}
            for point, payload in enumerate(self.payloads):
                if (point, name) not in sent and point not in self.bad:
                    text = msgspec.json.decode(payload).get(known.text_field)
                    if isinstance(text, str):
                        self.texts.append(TextPlace(point, name, text))

    def finish(self) -> Draft:
        """Check all ready vectors, each name as one array, and note the points of bad ones."""
        for name, (places, values) in self._ready.items():
            if places:
                self._check(name, places, values)
        self._ready.clear()
        if self.bad:
            self.texts = [text for text in self.texts if text.point not in self.bad]
        return self

    def _check(self, name: str, places: list[int], values: list[list[float]]) -> None:
        known = self.schema.vectors[name]
        try:
            array = as_vectors(_floats(values, known.dim), known.dim, known.metric)
        except (VssError, ValueError, OverflowError, struct.error):
            # Something is wrong somewhere; one by one shows where.
            for point, value in zip(places, values, strict=True):
                try:
                    where = self.place(point, name)
                    self.vectors[point][name] = as_vectors(value, known.dim, known.metric, field=where)[0]
                except VssError as error:
                    self.refuse(point, error)
        else:
            for point, vector in zip(places, array, strict=True):
                self.vectors[point][name] = vector

    def points(self) -> list[Point]:
        """The points that can be taken, once every text has become a vector."""
        payloads = self.payloads or [EMPTY_PAYLOAD] * len(self.ids)
        points = [
            Point(id=cast(PointId, one), vectors=vectors, payload=payload)
            for one, vectors, payload in zip(self.ids, self.vectors, payloads, strict=True)
        ]
        return [point for number, point in enumerate(points) if number not in self.bad] if self.bad else points


def _floats(values: list[list[float]], dim: int) -> NDArray[np.float64]:
    """`(n, dim)` of lists that have to have that length (struct.error): twice as fast as numpy's own way from lists."""
    pack = struct.Struct(f"{dim}d").pack
    return np.frombuffer(b"".join([pack(*one) for one in values]), np.float64).reshape(-1, dim)


def _is_document(value: NamedVectors) -> bool:
    """Whether an object of named vectors is a Document in truth."""
    return isinstance(value.get("text"), str)


def _as_document(value: NamedVectors, where: str) -> Document:
    """That Document. VssError (INVALID) names a member that a Document has not."""
    for name, member in value.items():
        if name not in Document.__struct_fields__:
            raise invalid("got a field that does not exist", field=under(where, name))
        if name in ("text", "model") and member is not None and not isinstance(member, str):
            raise invalid(f"got {type(member).__name__}, wanted str", field=under(where, name))
    members: dict[str, Any] = dict(value)
    return Document(**members)


def read_document(wire: Document, known: VectorSchema, where: str) -> str:
    """The text of a Document, when it is meant for the schema's model. VssError: INVALID, UNSUPPORTED."""
    refuse_unsupported(wire, where)
    if wire.text is None:
        raise invalid("got nothing, wanted this field", field=under(where, "text"))
    if known.model is None:
        raise invalid(
            "got a text, but this vector has no model",
            field=where,
            hint='send numbers, or create the collection with {"vss": {"model": NAME}}',
        )
    if wire.model is not None and wire.model != known.model:
        raise invalid(f"got model {wire.model!r}, wanted {known.model!r}", field=under(where, "model"))
    return wire.text
