"""Which points a query may return: a closed union of frozen values, with Qdrant's meaning.

    Filter(must, should, must_not)   all of must, none of must_not, and at least one of should where it has any
    Match(key, values)               the field equals one of the values; no values match nothing
    Range(key, gt, gte, lt, lte)     the field is a number in the range
    HasId(ids)                       the point is one of these

A key is a path: `a.b` goes into objects, `a[].b` into every element of an array. A condition on an array field
holds if any element matches. A missing field and null match nothing. `true` and `1` differ, and so do `1` and `"1"`.

`matches` here is the meaning itself, on one parsed payload; `vss.storage.columns` answers the same from columns,
and the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vss.points import id_key
from vss.types import PointId

MatchValue = bool | int | str


@dataclass(frozen=True, slots=True)
class Match:
    """The field at `key` equals one of `values`."""

    key: str
    values: tuple[MatchValue, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field at `key` is a number within the bounds; a bound of None is open."""

    key: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class HasId:
    """The point's id is one of `ids`."""

    ids: tuple[PointId, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions joined as Qdrant joins them; a filter is a condition too."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()


Condition = Match | Range | HasId | Filter


def same_value(stored: object, wanted: MatchValue) -> bool:
    """Equality without Python's `True == 1 == 1.0`."""
    return type(stored) is type(wanted) and stored == wanted


def is_number(value: object) -> bool:
    """True for integers and floats, not for bools."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_range(value: float, bounds: Range) -> bool:
    """Whether a number lies within the bounds."""
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )


def values_at(payload: Any, path: str) -> Iterator[Any]:
    """Every scalar at the path: elements of a final array one by one; objects and null are none."""
    yield from _walk(payload, path.split("."))


def _walk(value: Any, steps: list[str]) -> Iterator[Any]:
    if not steps:
        for one in value if isinstance(value, list) else (value,):
            if one is not None and not isinstance(one, dict | list):
                yield one
        return
    name = steps[0].removesuffix("[]")
    if not isinstance(value, dict) or name not in value:
        return
    below = value[name]
    if steps[0].endswith("[]"):
        for one in below if isinstance(below, list) else ():
            yield from _walk(one, steps[1:])
    else:
        yield from _walk(below, steps[1:])


def matches(condition: Condition, point_id: PointId, payload: Any) -> bool:
    """Whether one point passes. `payload` is the parsed JSON object."""
    match condition:
        case Match(key, values):
            return any(same_value(have, want) for have in values_at(payload, key) for want in values)
        case Range(key):
            return any(is_number(have) and in_range(have, condition) for have in values_at(payload, key))
        case HasId(ids):
            wanted = id_key(point_id)
            return any(id_key(one) == wanted for one in ids)
        case Filter(must, should, must_not):
            return (
                all(matches(one, point_id, payload) for one in must)
                and not any(matches(one, point_id, payload) for one in must_not)
                and (not should or any(matches(one, point_id, payload) for one in should))
            )
