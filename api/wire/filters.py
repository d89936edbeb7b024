"""Filters: Qdrant's conditions as one struct, turned into `vss.filters`. What we do not evaluate is refused."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from api.wire.base import Harmless, Hints, Unsupported, Wire, exactly_one, refuse_unsupported, under
from api.wire.ids import read_id
from vss.errors import invalid
from vss.filters import Condition, Filter, HasId, Match, MatchValue, Range

MAX_DEPTH = 16
MAX_CONDITIONS = 1_000
MAX_VALUES = 10_000
"""Values in one `any` and ids in one `has_id`."""


class MatchWire(Wire):
    """Exactly one of `value` and `any`."""

    value: bool | int | str | None = None
    any: list[bool | int | str] | None = None
    text: Unsupported = None
    text_any: Unsupported = None
    phrase: Unsupported = None
    prefix: Unsupported = None
    except_: Unsupported = msgspec.field(name="except", default=None)

    unsupported: ClassVar[Harmless] = dict.fromkeys(("text", "text_any", "phrase", "prefix", "except_"), ())
    hints: ClassVar[Hints] = {"except_": "put `any` into must_not"}


class RangeWire(Wire):
    """Numbers only."""

    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


class ConditionWire(Wire):
    """Exactly one of: `key` with `match` or `range`; `has_id`; or a filter (`must`, `should`, `must_not`)."""

    key: str | None = None
    match: MatchWire | None = None
    range: RangeWire | None = None
    has_id: list[int | str] | None = None
    must: list[ConditionWire] | ConditionWire | None = None
    should: list[ConditionWire] | ConditionWire | None = None
    must_not: list[ConditionWire] | ConditionWire | None = None
    min_should: Unsupported = None
    nested: Unsupported = None
    is_empty: Unsupported = None
    is_null: Unsupported = None
    has_vector: Unsupported = None
    slice: Unsupported = None
    values_count: Unsupported = None
    geo_bounding_box: Unsupported = None
    geo_radius: Unsupported = None
    geo_polygon: Unsupported = None

    unsupported: ClassVar[Harmless] = dict.fromkeys(
        (
            "min_should",
            "nested",
            "is_empty",
            "is_null",
            "has_vector",
            "slice",
            "values_count",
            "geo_bounding_box",
            "geo_radius",
            "geo_polygon",
        ),
        (),
    )
    hints: ClassVar[Hints] = {"nested": "a path like `a[].b` goes into every element of an array"}


class FilterWire(Wire):
    """All of `must`, at least one of `should` where there is one, none of `must_not`."""

    must: list[ConditionWire] | ConditionWire | None = None
    should: list[ConditionWire] | ConditionWire | None = None
    must_not: list[ConditionWire] | ConditionWire | None = None
    min_should: Unsupported = None

    unsupported: ClassVar[Harmless] = {"min_should": ()}


def read_filter(wire: FilterWire | None, where: str = "filter") -> Filter | None:
    """The filter as `vss` knows it; None when it asks for nothing. VssError: INVALID, UNSUPPORTED."""
    if wire is None:
        return None
    found = _Reader().filter(wire, where, 1)
    return found if found.must or found.should or found.must_not else None


class _Reader:
    """One filter being read; counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, wire: FilterWire | ConditionWire, where: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise invalid(f"got a filter nested more than {MAX_DEPTH} deep", field=where)
        refuse_unsupported(wire, where)
        return Filter(
            must=self._clauses(wire.must, under(where, "must"), depth),
            should=self._clauses(wire.should, under(where, "should"), depth),
            must_not=self._clauses(wire.must_not, under(where, "must_not"), depth),
        )

    def _clauses(
        self, wires: list[ConditionWire] | ConditionWire | None, where: str, depth: int
    ) -> tuple[Condition, ...]:
        if wires is None:
            return ()
        if isinstance(wires, ConditionWire):
            return (self._condition(wires, where, depth),)
        return tuple(self._condition(wire, f"{where}[{place}]", depth) for place, wire in enumerate(wires))

    def _condition(self, wire: ConditionWire, where: str, depth: int) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise invalid(f"got more than {MAX_CONDITIONS} conditions", field=where)
        refuse_unsupported(wire, where)
        clauses = wire.must is not None or wire.should is not None or wire.must_not is not None
        if sum((wire.key is not None, wire.has_id is not None, clauses)) != 1:
            raise invalid("got no condition or several, wanted one: a key, has_id, or a filter", field=where)
        if wire.key is None and (wire.match is not None or wire.range is not None):
            raise invalid("got a match or range without a key", field=under(where, "key"))
        if wire.key is not None:
            return self._field(wire, wire.key, where)
        if wire.has_id is not None:
            return _has_id(wire.has_id, under(where, "has_id"))
        return self.filter(wire, where, depth + 1)

    @staticmethod
    def _field(wire: ConditionWire, key: str, where: str) -> Condition:
        if not key:
            raise invalid("got an empty key, wanted a path like `a.b`", field=under(where, "key"))
        if exactly_one(wire, ("match", "range"), where) == "match":
            assert wire.match is not None
            return Match(key, _values(wire.match, under(where, "match")))
        bounds = wire.range
        assert bounds is not None
        if bounds.gt is None and bounds.gte is None and bounds.lt is None and bounds.lte is None:
            raise invalid("got no bound, wanted at least one of gt, gte, lt, lte", field=under(where, "range"))
        return Range(key, gt=bounds.gt, gte=bounds.gte, lt=bounds.lt, lte=bounds.lte)


def _values(wire: MatchWire, where: str) -> tuple[MatchValue, ...]:
    refuse_unsupported(wire, where)
    if exactly_one(wire, ("value", "any"), where) == "value":
        assert wire.value is not None
        return (wire.value,)
    values = wire.any or []
    if len(values) > MAX_VALUES:
        raise invalid(f"got {len(values)} values, wanted at most {MAX_VALUES}", field=under(where, "any"))
    return tuple(values)


def _has_id(ids: list[int | str], where: str) -> HasId:
    if len(ids) > MAX_VALUES:
        raise invalid(f"got {len(ids)} ids, wanted at most {MAX_VALUES}", field=where)
    return HasId(tuple(read_id(one, f"{where}[{place}]") for place, one in enumerate(ids)))
