"""Which points a query may return: a closed union of frozen values, with Qdrant's meaning.

    Filter(must, should, must_not, min_should)   all of must, none of must_not, at least one of should where it has
                                                 any, at least so many of min_should
    Match(key, values)          the field equals one of the values; no values match nothing
    Except(key, values)         the field has a value that is none of these; null is no value
    Text(key, text, mode)       the field is a text with these words, this phrase, this beginning or this part
    Range(key, gt, gte, lt, lte)          the field is a number in the range
    DatetimeRange(key, gt, gte, lt, lte)  the field is a moment in the range
    ValuesCount(key, gt, gte, lt, lte)    so many values: an array has its length, a scalar 1, null and nothing 0
    IsEmpty(key)                nothing there, or only null and empty arrays
    IsNull(key)                 null is there, or an array with null in it
    HasId(ids)                  the point is one of these
    HasVector(name)             the point has a vector by that name
    Nested(key, where)          one object of the array passes the whole filter

A key is a path (`vss.paths`). A condition on an array field holds if any element matches. Elsewhere a missing field
and null match nothing. `true` and `1` differ, and so do `1` and `"1"`. Ids and vectors are not known inside `Nested`.

`predicate` here is the meaning itself, on one parsed payload; `vss.storage.columns` answers the same from columns,
and the tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vss.instants import parse_instant
from vss.paths import EACH, Path, elements, parse_path, reach
from vss.points import id_key
from vss.types import PointId

MatchValue = bool | int | str


@dataclass(frozen=True, slots=True)
class Match:
    """The field at `key` equals one of `values`."""

    key: str
    values: tuple[MatchValue, ...]


@dataclass(frozen=True, slots=True)
class Except:
    """The field at `key` has a value that is none of `values`; objects and inner arrays are such values."""

    key: str
    values: tuple[MatchValue, ...]


class TextMode(StrEnum):
    """What a text has to have; the values are Qdrant's names. Words are runs of letters and digits in lower case."""

    ALL_WORDS = "text"
    ANY_WORD = "text_any"
    PHRASE = "phrase"
    PREFIX = "prefix"
    SUBSTRING = "substring"


@dataclass(frozen=True, slots=True)
class Text:
    """The field at `key` is a text that has `text` in the way of `mode`. No words match nothing."""

    key: str
    text: str
    mode: TextMode = TextMode.ALL_WORDS


@dataclass(frozen=True, slots=True)
class Range:
    """The field at `key` is a number within the bounds; a bound of None is open."""

    key: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class DatetimeRange:
    """The field at `key` is a text that says a moment within the bounds, in microseconds since 1970 (UTC)."""

    key: str
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class ValuesCount:
    """How many values the field at `key` has; a path that leads to several places counts each on its own."""

    key: str
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The path leads nowhere, or only to null and empty arrays."""

    key: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """The path leads to null, or to an array with null among its elements."""

    key: str


@dataclass(frozen=True, slots=True)
class HasId:
    """The point's id is one of `ids`."""

    ids: tuple[PointId, ...]


@dataclass(frozen=True, slots=True)
class HasVector:
    """The point has a vector by that name."""

    name: str


@dataclass(frozen=True, slots=True)
class Nested:
    """One of the objects in the array at `key` passes `where`, whose keys start in that object."""

    key: str
    where: Filter


@dataclass(frozen=True, slots=True)
class MinShould:
    """At least `count` (from 1) of the conditions."""

    conditions: tuple[Condition, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions joined as Qdrant joins them; a filter is a condition too."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()
    min_should: MinShould | None = None


Bounds = Range | DatetimeRange | ValuesCount
Leaf = Match | Except | Text | Range | DatetimeRange | ValuesCount | IsEmpty | IsNull | HasId | HasVector | Nested
Condition = Leaf | Filter

MOST_NAMED, LONGEST_NAMED = 16, 4096
"""Conditions whose names are at hand, those of one search, which asks for each several times; and their characters."""

_named: dict[int, tuple[Condition, str]] = {}

Predicate = Callable[[PointId | None, Any, Container[str]], bool]
"""Whether one point passes: its id (None inside `Nested`), the parsed JSON object, the names of its vectors."""

_WORD = re.compile(r"[^\W_]+")


def name_of(condition: Condition) -> str:
    """What is kept of a condition is kept by this name: equal ones have the same, and `Match(k, (1,))` has another than
    `Match(k, (True,))`, which are equal to a dict."""
    known = _named.get(id(condition))
    if known is not None and known[0] is condition:
        return known[1]
    name = repr(condition)
    if len(name) <= LONGEST_NAMED:
        if len(_named) >= MOST_NAMED:
            _named.clear()
        _named[id(condition)] = condition, name  # held: nothing else can have its id meanwhile
    return name


def is_number(value: object) -> bool:
    """True for integers and floats, not for bools."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_range(value: float, bounds: Bounds) -> bool:
    """Whether a number lies within the bounds."""
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )


def values_at(payload: Any, path: str) -> Iterator[Any]:
    """Every scalar at the path: elements of a final array one by one; objects and null are none."""
    return _scalars(payload, parse_path(path))


def _scalars(payload: Any, path: Path) -> Iterator[Any]:
    return (one for one in elements(payload, path) if one is not None and not isinstance(one, dict | list))


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def text_test(condition: Text) -> Callable[[str], bool]:
    """Whether one text has what the condition asks for."""
    wanted = words(condition.text)
    every, text, count = frozenset(wanted), condition.text, len(wanted)
    match condition.mode:
        case TextMode.ALL_WORDS:
            return lambda have: bool(wanted) and every.issubset(words(have))
        case TextMode.ANY_WORD:
            return lambda have: not every.isdisjoint(words(have))
        case TextMode.PHRASE:
            return lambda have: (
                bool(wanted)
                and any(
                    there[at : at + count] == wanted for there in (words(have),) for at in range(len(there) - count + 1)
                )
            )
        case TextMode.PREFIX:
            return lambda have: have.startswith(text)
        case TextMode.SUBSTRING:
            return lambda have: text in have


def value_count(value: object) -> int:
    """How many values one value is."""
    return 0 if value is None else len(value) if isinstance(value, list) else 1


def holds_null(value: object) -> bool:
    """Whether one value is null or an array with null among its elements."""
    return value is None or (isinstance(value, list) and any(one is None for one in value))


def matches(condition: Condition, point_id: PointId, payload: Any, vectors: Container[str] = ()) -> bool:
    """Whether one point passes; for many points make the `predicate` once."""
    return predicate(condition)(point_id, payload, vectors)


def predicate(condition: Condition) -> Predicate:
    """The meaning of a condition. Raises VssError (INVALID) for a key that is no path."""
    match condition:
        case HasId(ids):
            keys = frozenset(map(id_key, ids))
            return lambda point_id, payload, vectors: point_id is not None and id_key(point_id) in keys
        case HasVector(name):
            return lambda point_id, payload, vectors: name in vectors
        case Filter():
            return _joined(condition)
        case _:
            test, path = _payload_test(condition), _start(condition)
            return lambda point_id, payload, vectors: test(payload, path)


def _start(condition: Match | Except | Text | Bounds | IsEmpty | IsNull | Nested) -> Path:
    path = parse_path(condition.key)
    return (*path, EACH) if isinstance(condition, Nested) and path[-1] != EACH else path


def _payload_test(
    condition: Match | Except | Text | Bounds | IsEmpty | IsNull | Nested,
) -> Callable[[Any, Path], bool]:
    match condition:
        case Match(_, values):
            # Pairs with the type: to a set, 1 and True are one member.
            wanted = {(type(one), one) for one in values}
            return lambda payload, path: any((type(have), have) in wanted for have in _scalars(payload, path))
        case Except(_, values):
            unwanted = {(type(one), one) for one in values}
            return lambda payload, path: any(
                have is not None and (isinstance(have, dict | list) or (type(have), have) not in unwanted)
                for have in elements(payload, path)
            )
        case Text():
            test = text_test(condition)
            return lambda payload, path: any(isinstance(have, str) and test(have) for have in elements(payload, path))
        case Range():
            return lambda payload, path: any(
                is_number(have) and in_range(have, condition) for have in elements(payload, path)
            )
        case DatetimeRange():
            return lambda payload, path: any(
                moment is not None and in_range(moment, condition)
                for have in elements(payload, path)
                if isinstance(have, str)
                for moment in (parse_instant(have),)
            )
        case ValuesCount():
            return lambda payload, path: any(
                in_range(count, condition) for count in [value_count(have) for have in reach(payload, path)] or [0]
            )
        case IsEmpty():
            return lambda payload, path: all(value_count(have) == 0 for have in reach(payload, path))
        case IsNull():
            return lambda payload, path: any(map(holds_null, reach(payload, path)))
        case Nested(_, where):
            inner = predicate(where)
            return lambda payload, path: any(
                inner(None, have, ()) for have in reach(payload, path) if isinstance(have, dict)
            )


def _joined(where: Filter) -> Predicate:
    must, should, must_not = (tuple(map(predicate, some)) for some in (where.must, where.should, where.must_not))
    least = where.min_should.count if where.min_should else 0
    some = tuple(map(predicate, where.min_should.conditions)) if where.min_should else ()

    def passes(point_id: PointId | None, payload: Any, vectors: Container[str]) -> bool:
        return (
            all(one(point_id, payload, vectors) for one in must)
            and not any(one(point_id, payload, vectors) for one in must_not)
            and (not should or any(one(point_id, payload, vectors) for one in should))
            and (least == 0 or sum(one(point_id, payload, vectors) for one in some) >= least)
        )

    return passes
