"""Filters: Qdrant's conditions as one struct, turned into `vss.filters`. What we do not evaluate is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from api.wire.base import Harmless, Unsupported, Wire, exactly_one, located, refuse_unsupported, under
from api.wire.ids import read_id
from vss.errors import VssError, invalid
from vss.filters import (
    Condition,
    DatetimeRange,
    Except,
    Filter,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchValue,
    MinShould,
    Nested,
    Range,
    Text,
    TextMode,
    ValuesCount,
)
from vss.instants import parse_instant
from vss.paths import parse_path

MAX_DEPTH = 16
MAX_CONDITIONS = 1_000
MAX_VALUES = 10_000
"""Values in one `any` or `except`, and ids in one `has_id`."""
MAX_KEY_CHARS = 512
MAX_TEXT_CHARS = 10_000

_BOUNDS = ("gt", "gte", "lt", "lte")
_FIELD = ("match", "range", "values_count", "is_empty", "is_null")
_CLAUSES = ("must", "should", "must_not", "min_should")


class MatchWire(Wire):
    """Exactly one of these. Words (`text`, `text_any`, `phrase`) are runs of letters and digits in lower case."""

    value: bool | int | str | None = None
    any: list[bool | int | str] | None = None
    except_: list[bool | int | str] | None = msgspec.field(name="except", default=None)
    text: str | None = None
    text_any: str | None = None
    phrase: str | None = None
    prefix: str | None = None
    substring: str | None = None


class RangeWire(Wire):
    """All numbers, or all moments in time (RFC 3339; without an offset they are UTC)."""

    gt: float | str | None = None
    gte: float | str | None = None
    lt: float | str | None = None
    lte: float | str | None = None


class ValuesCountWire(Wire):
    """How many values: an array has its length, a scalar 1, null and nothing 0."""

    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


class FieldWire(Wire):
    """A payload field."""

    key: str


class NestedWire(Wire):
    """One object of the array at `key` passes the whole filter, whose keys start in that object."""

    key: str
    filter: FilterWire


class MinShouldWire(Wire):
    """At least `min_count` (from 1) of the conditions."""

    conditions: list[ConditionWire]
    min_count: int


class ConditionWire(Wire):
    """Exactly one of: `key` with `match`, `range`, `values_count`, `is_empty` or `is_null`; `is_empty` or `is_null`
    of a field; `has_id`; `has_vector`; `nested`; or a filter (`must`, `should`, `must_not`, `min_should`)."""

    key: str | None = None
    match: MatchWire | None = None
    range: RangeWire | None = None
    values_count: ValuesCountWire | None = None
    is_empty: FieldWire | bool | None = None
    is_null: FieldWire | bool | None = None
    has_id: list[int | str] | None = None
    has_vector: str | None = None
    nested: NestedWire | None = None
    must: list[ConditionWire] | ConditionWire | None = None
    should: list[ConditionWire] | ConditionWire | None = None
    must_not: list[ConditionWire] | ConditionWire | None = None
    min_should: MinShouldWire | None = None
    slice: Unsupported = None
    geo_bounding_box: Unsupported = None
    geo_radius: Unsupported = None
    geo_polygon: Unsupported = None

    unsupported: ClassVar[Harmless] = dict.fromkeys(("slice", "geo_bounding_box", "geo_radius", "geo_polygon"), ())


class FilterWire(Wire):
    """All of `must`, at least one of `should` where there is one, none of `must_not`, so many of `min_should`."""

    must: list[ConditionWire] | ConditionWire | None = None
    should: list[ConditionWire] | ConditionWire | None = None
    must_not: list[ConditionWire] | ConditionWire | None = None
    min_should: MinShouldWire | None = None


def read_filter(wire: FilterWire | None, where: str = "filter") -> Filter | None:
    """The filter as `vss` knows it; None when it asks for nothing. VssError: INVALID, UNSUPPORTED."""
    if wire is None:
        return None
    found = _Reader().filter(wire, where, 1)
    return None if found == Filter() else found


class _Reader:
    """One filter being read; counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, wire: FilterWire | ConditionWire, where: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise invalid(f"got a filter nested more than {MAX_DEPTH} deep", field=where)
        return Filter(
            must=self._clauses(wire.must, under(where, "must"), depth),
            should=self._clauses(wire.should, under(where, "should"), depth),
            must_not=self._clauses(wire.must_not, under(where, "must_not"), depth),
            min_should=self._min_should(wire.min_should, under(where, "min_should"), depth),
        )

    def _clauses(
        self, wires: list[ConditionWire] | ConditionWire | None, where: str, depth: int
    ) -> tuple[Condition, ...]:
        if wires is None:
            return ()
        if isinstance(wires, ConditionWire):
            return (self._condition(wires, where, depth),)
        return tuple(self._condition(wire, f"{where}[{place}]", depth) for place, wire in enumerate(wires))

    def _min_should(self, wire: MinShouldWire | None, where: str, depth: int) -> MinShould | None:
        if wire is None:
            return None
        if wire.min_count < 1:
            raise invalid(f"got {wire.min_count}, wanted at least 1", field=under(where, "min_count"))
        return MinShould(self._clauses(wire.conditions, under(where, "conditions"), depth), wire.min_count)

    def _condition(self, wire: ConditionWire, where: str, depth: int) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise invalid(f"got more than {MAX_CONDITIONS} conditions", field=where)
        refuse_unsupported(wire, where)
        if wire.key is not None:
            _alone(wire, ("key", *_FIELD), "a key", where)
            return _field(wire, wire.key, where)
        if any(getattr(wire, name) is not None for name in _CLAUSES):
            _alone(wire, _CLAUSES, "a filter", where)
            return self.filter(wire, where, depth + 1)
        for name in ("match", "range", "values_count"):
            if getattr(wire, name) is not None:
                raise invalid(f"got a {name} without a key", field=under(where, "key"))
        match exactly_one(wire, ("is_empty", "is_null", "has_id", "has_vector", "nested"), where):
            case "has_id":
                return _has_id(wire.has_id or [], under(where, "has_id"))
            case "has_vector":
                return HasVector(wire.has_vector or "")
            case "nested":
                assert wire.nested is not None
                inside = under(where, "nested")
                key = read_key(wire.nested.key, under(inside, "key"))
                return Nested(key, self.filter(wire.nested.filter, under(inside, "filter"), depth + 1))
            case name:
                return _emptiness(name, getattr(wire, name), under(where, name))


def _alone(wire: ConditionWire, names: Sequence[str], what: str, where: str) -> None:
    there = [name for name in wire.__struct_fields__ if name not in names and getattr(wire, name) is not None]
    if there:
        raise invalid(f"got {there[0]} beside {what}, wanted one condition", field=where)


def read_key(key: str, where: str) -> str:
    """A key that is a path within the limit. VssError (INVALID)."""
    if len(key) > MAX_KEY_CHARS:
        raise invalid(f"got a key of {len(key)} characters, wanted at most {MAX_KEY_CHARS}", field=where)
    try:
        parse_path(key)
    except VssError as error:
        raise located(error, where) from None
    return key


def _field(wire: ConditionWire, key: str, where: str) -> Condition:
    read_key(key, under(where, "key"))
    name = exactly_one(wire, _FIELD, where)
    at = under(where, name)
    if wire.match is not None:
        return _match(wire.match, key, at)
    if wire.range is not None:
        return _range(wire.range, key, at)
    if wire.values_count is not None:
        counts = wire.values_count
        _some_bound(counts, at)
        return ValuesCount(key, gt=counts.gt, gte=counts.gte, lt=counts.lt, lte=counts.lte)
    wanted = getattr(wire, name)
    if not isinstance(wanted, bool):
        raise invalid("got an object beside a key, wanted true or false", field=at)
    condition = IsEmpty(key) if name == "is_empty" else IsNull(key)
    return condition if wanted else Filter(must_not=(condition,))


def _emptiness(name: str, wanted: FieldWire | bool, where: str) -> Condition:
    if isinstance(wanted, bool):
        raise invalid(f'got {str(wanted).lower()} without a key, wanted {{"key": ...}}', field=where)
    key = read_key(wanted.key, under(where, "key"))
    return IsEmpty(key) if name == "is_empty" else IsNull(key)


def _match(wire: MatchWire, key: str, where: str) -> Condition:
    name = exactly_one(wire, wire.__struct_fields__, where)
    wanted = getattr(wire, name)
    match name:
        case "value":
            return Match(key, (wanted,))
        case "any":
            return Match(key, _values(wanted, under(where, "any")))
        case "except_":
            return Except(key, _values(wanted, under(where, "except")))
    if len(wanted) > MAX_TEXT_CHARS:
        raise invalid(f"got {len(wanted)} characters, wanted at most {MAX_TEXT_CHARS}", field=under(where, name))
    return Text(key, wanted, TextMode(name))


def _values(values: list[MatchValue], where: str) -> tuple[MatchValue, ...]:
    if len(values) > MAX_VALUES:
        raise invalid(f"got {len(values)} values, wanted at most {MAX_VALUES}", field=where)
    return tuple(values)


def _range(wire: RangeWire, key: str, where: str) -> Condition:
    there = _some_bound(wire, where)
    if all(isinstance(getattr(wire, name), float) for name in there):
        return Range(key, **{name: getattr(wire, name) for name in there})
    return DatetimeRange(key, **{name: _moment(getattr(wire, name), under(where, name)) for name in there})


def _moment(bound: float | str, where: str) -> int:
    if not isinstance(bound, str):
        raise invalid(f"got the number {bound:g} beside a moment in time, wanted bounds of one kind", field=where)
    moment = parse_instant(bound)
    if moment is None:
        raise invalid(
            f"got {bound[:80]!r}, wanted a number or a moment in time",
            field=where,
            hint="write moments like 2024-05-01T12:30:00Z (RFC 3339)",
        )
    return moment


def _some_bound(wire: RangeWire | ValuesCountWire, where: str) -> list[str]:
    there = [name for name in _BOUNDS if getattr(wire, name) is not None]
    if not there:
        raise invalid("got no bound, wanted at least one of gt, gte, lt, lte", field=where)
    return there


def _has_id(ids: list[int | str], where: str) -> HasId:
    if len(ids) > MAX_VALUES:
        raise invalid(f"got {len(ids)} ids, wanted at most {MAX_VALUES}", field=where)
    return HasId(tuple(read_id(one, f"{where}[{place}]") for place, one in enumerate(ids)))
