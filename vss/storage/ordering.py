"""Points in the order of a payload field: a number, or a moment written as text.

Numbers come before moments; equal values in scroll order; a point whose field is an array stands where its first
element in that order does; a point without such a value is left out, as in Qdrant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vss.errors import invalid
from vss.filters import Condition, is_number, values_at
from vss.instants import parse_instant
from vss.storage.segment import Segment
from vss.storage.view import Part, View

Rank = tuple[int, float]
"""(0, number) or (1, microseconds since 1970)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to order by.

    start_from: a number or a moment: values before it, in the direction asked for, are left out
    """

    key: str
    descending: bool = False
    start_from: float | str | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """One point on the page: where it is, and the value that it stands by (microseconds for a moment)."""

    part: Part
    row: int
    value: float


def ordered(view: View, where: Condition | None, order: Order, limit: int) -> list[Placed]:
    """The first `limit` points that pass the filter. VssError (INVALID) for a `start_from` that is no moment."""
    start = None if order.start_from is None else _rank(order.start_from)
    if order.start_from is not None and start is None:
        raise invalid(
            f"got start_from {order.start_from!r}, wanted a number or a moment (RFC 3339)", field="order_by.start_from"
        )
    candidates = [
        (rank, part.body.key(row), part, row)
        for part in view.parts
        for rank, row in _best(part, where, order, start, limit)
    ]
    candidates.sort(key=lambda one: one[1])
    candidates.sort(key=lambda one: one[0], reverse=order.descending)
    return [Placed(part, row, rank[1]) for rank, _, part, row in candidates[:limit]]


def _best(
    part: Part, where: Condition | None, order: Order, start: Rank | None, limit: int
) -> Iterator[tuple[Rank, int]]:
    """At least the `limit` first rows of one part, and all that equal the last of them, in no order."""
    allowed = part.allowed(where)
    mask = np.ones(len(part.body), np.bool_) if allowed is None else allowed.copy()
    columns = part.body.ordered(order.key) if isinstance(part.body, Segment) else None
    if columns is None:
        yield from _read(part, np.flatnonzero(mask).tolist(), order, start)
        return
    patched = [row for row in part.patches if mask[row]]
    yield from _read(part, patched, order, start)
    mask[patched] = False
    ranked: dict[int, Rank] = {}
    for type_, (values, rows) in columns.items():
        kind = 1 if type_ == "datetime" else 0
        for value, row in _first(values, rows, mask, order.descending, None if start is None else (start, kind), limit):
            rank = (kind, value)
            known = ranked.get(row)
            if known is None or (rank > known if order.descending else rank < known):
                ranked[row] = rank
    yield from ((rank, row) for row, rank in ranked.items())


def _first(
    values: NDArray[Any],
    rows: NDArray[Any],
    mask: NDArray[np.bool_],
    descending: bool,
    start: tuple[Rank, int] | None,
    limit: int,
) -> Iterator[tuple[float, int]]:
    """(value, row) of allowed rows in order, until `limit` rows and all equals of the last one are out."""
    places = np.flatnonzero(mask[rows])
    walk = reversed(places) if descending else iter(places)
    seen: set[int] = set()
    last = None
    for place in walk:
        value, row = values[place].item(), int(rows[place])
        if start is not None and _before((start[1], value), start[0], descending):
            continue
        if len(seen) >= limit and value != last:
            return
        last = value
        seen.add(row)
        yield value, row


def _read(part: Part, rows: list[int], order: Order, start: Rank | None) -> Iterator[tuple[Rank, int]]:
    choose = max if order.descending else min
    for row in rows:
        ranks = map(_rank, values_at(msgspec.json.decode(part.payload(row)), order.key))
        ranks_in = [one for one in ranks if one is not None and not (start and _before(one, start, order.descending))]
        if ranks_in:
            yield choose(ranks_in), row


def _before(rank: Rank, start: Rank, descending: bool) -> bool:
    return rank > start if descending else rank < start


def _rank(value: object) -> Rank | None:
    if is_number(value):
        return (0, value)  # type: ignore[return-value]
    moment = parse_instant(value) if isinstance(value, str) else None
    return None if moment is None else (1, moment)
