"""`with_payload` and `with_vector`: which parts of a point an answer shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from api.wire.base import Wire, exactly_one
from vss.errors import VssError, invalid
from vss.paths import parse_path
from vss.schema import DEFAULT_VECTOR, Schema
from vss.types import Vectors


class PayloadSelector(Wire):
    """Exactly one of `include` and `exclude`: paths like `a.b`."""

    include: list[str] | None = None
    exclude: list[str] | None = None


WithPayload = bool | list[str] | PayloadSelector | None
WithVector = bool | list[str] | None


Names = tuple[str, ...]
"""A path as the names on it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to show. `payload` True is all of it, a tuple is paths to keep, `without` paths to drop."""

    payload: bool | tuple[Names, ...]
    without: tuple[Names, ...] = ()
    vectors: bool | tuple[str, ...] = False

    def show_payload(self, payload: bytes) -> msgspec.Raw | None:
        """The payload as JSON bytes, or None when none was asked for."""
        if self.payload is False:
            return None
        if self.payload is True and not self.without:
            return msgspec.Raw(payload)
        whole = msgspec.json.decode(payload)
        if self.without:
            return msgspec.Raw(msgspec.json.encode(_drop(whole, self.without)))
        assert isinstance(self.payload, tuple)
        return msgspec.Raw(msgspec.json.encode(_keep(whole, self.payload)))

    def show_vectors(self, vectors: Mapping[str, Vectors]) -> Any:
        """A list for the vector without a name, an object of lists for named ones, None when none was asked for."""
        if self.vectors is False:
            return None
        chosen = {
            name: vector.tolist() for name, vector in vectors.items() if self.vectors is True or name in self.vectors
        }
        return chosen[DEFAULT_VECTOR] if list(chosen) == [DEFAULT_VECTOR] else chosen


def read_selection(with_payload: WithPayload, with_vector: WithVector, schema: Schema, *, payload: bool) -> Selection:
    """The selection; `payload` is what happens when nothing is said about it. VssError (INVALID)."""
    if isinstance(with_vector, list):
        for name in with_vector:
            schema.vector(name)
    vectors = with_vector if isinstance(with_vector, bool) else tuple(with_vector or ())
    vectors = vectors or False
    if with_payload is None:
        return Selection(payload, (), vectors)
    if isinstance(with_payload, bool):
        return Selection(with_payload, (), vectors)
    if isinstance(with_payload, list):
        return Selection(_names(with_payload, "with_payload"), (), vectors)
    if exactly_one(with_payload, ("include", "exclude"), "with_payload") == "include":
        return Selection(_names(with_payload.include or (), "with_payload.include"), (), vectors)
    return Selection(True, _names(with_payload.exclude or (), "with_payload.exclude"), vectors)


def _names(paths: Sequence[str], where: str) -> tuple[Names, ...]:
    """The names on each path. Arrays are gone into on the way, whether the path says so or not."""
    try:
        return tuple(tuple(step for step in parse_path(path) if isinstance(step, str)) for path in paths)
    except VssError as error:
        raise invalid(error.message, field=where, hint=error.hint) from error


def _keep(value: Any, paths: Sequence[Names]) -> Any:
    if isinstance(value, list):
        return [_keep(one, paths) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, below in value.items():
        tails = [path[1:] for path in paths if path[0] == name]
        if () in tails:
            kept[name] = below
        elif tails and isinstance(below, dict | list):
            kept[name] = _keep(below, tails)
    return kept


def _drop(value: Any, paths: Sequence[Names]) -> Any:
    if isinstance(value, list):
        return [_drop(one, paths) for one in value]
    if not isinstance(value, dict):
        return value
    left = {}
    for name, below in value.items():
        tails = [path[1:] for path in paths if path[0] == name]
        if () not in tails:
            left[name] = _drop(below, tails) if tails else below
    return left
