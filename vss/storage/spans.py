"""Parts of columns: where the rows of values, or of a range of them, stand side by side, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vss.filters import DatetimeRange, Match, MatchValue, Range, ValuesCount
from vss.storage.buckets import Buckets
from vss.storage.ids import Blobs
from vss.storage.ranks import ROW_BYTES, Ranks
from vss.storage.selection import Cache
from vss.types import Mask, Rows

Arrays = dict[str, NDArray[Any]]
Column = tuple[str, str]
"""(path, type), type one of "keyword", "bool", "integer", "float", "datetime", "words", "shape"."""

ORDER_BYTES = 32 << 20
"""Orders of columns kept for wide ranges, for each segment."""

RANK_BYTES, RANK_BYTES_PER_ROW = 32 << 20, 16
"""And for rows that are tested: so much at least, and in large segments for as many columns as take that of a row."""

WIDE_SHARE = 1 / 32
"""Part of a segment's rows from which on a range is compared by `Buckets`."""

PEEKED = 16
"""Rows by which is seen that a range of several numbers is in no order."""

LONG = 1 << 63


Order = TypeVar("Order", Buckets, Ranks)


class Span(NamedTuple):
    """A part of a column's rows; whether they rise, each standing once."""

    column: Column
    start: int
    stop: int
    rising: bool


class RowTest(NamedTuple):
    """About what part of all rows passes a condition or a filter, and what makes the test of some of them.

    made: gives what tells which of `(r,)` rows pass, or None where nothing does
    """

    share: float
    made: Callable[[], Callable[[Rows], Mask] | None]


def size_of(spans: Sequence[Span]) -> int:
    """Rows in them; a row that has several of their values counts for each."""
    return sum(span.stop - span.start for span in spans)


class Spans:
    """Finds them in the mapped columns of one segment. Thread-safe.

    keywords: the names of columns that have such
    """

    def __init__(self, rows: int, columns: Mapping[Column, Arrays], keywords: Mapping[Column, Blobs]) -> None:
        self._rows = rows
        self._columns = columns
        self._keywords = keywords
        self._buckets: Cache[Buckets] = Cache(ORDER_BYTES)
        self._ranks: Cache[Ranks] = Cache(max(RANK_BYTES, RANK_BYTES_PER_ROW * rows))
        self._several: set[Column] = set()

    def of(self, path: str, condition: Match | Range | DatetimeRange) -> list[Span]:
        """Those of the rows that pass, of a path that has columns for all of its scalars."""
        if isinstance(condition, Match):
            return self._values(path, condition.values)
        types = ("datetime",) if isinstance(condition, DatetimeRange) else ("integer", "float")
        ends = [((path, one), self.ends(path, one, condition)) for one in types if (path, one) in self._columns]
        return [Span(column, low, high, False) for column, (low, high) in ends if low < high]

    def _values(self, path: str, values: Sequence[MatchValue]) -> list[Span]:
        whole = [one for one in values if isinstance(one, int) and not isinstance(one, bool) and -LONG <= one < LONG]
        spans = [span for one in values if isinstance(one, bool | str) and (span := self.find(path, one))]
        arrays = self._columns.get((path, "integer"))
        if whole and arrays is not None:
            ends = (np.searchsorted(arrays["values"], whole, side).tolist() for side in ("left", "right"))
            spans += [Span((path, "integer"), start, stop, False) for start, stop in zip(*ends, strict=True)]
        return spans

    def find(self, path: str, value: MatchValue) -> Span | None:
        """That of one value; None where no row has it."""
        type_ = "bool" if isinstance(value, bool) else "integer" if isinstance(value, int) else "keyword"
        arrays = self._columns.get((path, type_))
        if arrays is None:
            return None
        if isinstance(value, str):
            at = self._keyword(path, value.encode(errors="surrogatepass"))
        elif type_ == "integer":
            if not -LONG <= value < LONG:
                return None
            start, stop = (int(np.searchsorted(arrays["values"], value, side)) for side in ("left", "right"))
            return Span((path, type_), start, stop, False)
        else:
            found = np.flatnonzero(arrays["values"] == value)
            at = int(found[0]) if len(found) else -1
        return None if at < 0 else Span((path, type_), int(arrays["starts"][at]), int(arrays["starts"][at + 1]), True)

    def _keyword(self, path: str, wanted: bytes) -> int:
        names = self._keywords[path, "keyword"]
        at = names.lower_bound(wanted)
        return at if at < len(names) and names[at] == wanted else -1

    def ends(self, path: str, type_: str, bounds: Range | DatetimeRange | ValuesCount) -> tuple[int, int]:
        """Where the values of a column that lie in a range begin and end."""
        values = self._columns[path, type_]["values"]
        low, high = 0, len(values)
        if bounds.gt is not None:
            low = _position(values, bounds.gt, "right")
        if bounds.gte is not None:
            low = max(low, _position(values, bounds.gte, "left"))
        if bounds.lt is not None:
            high = _position(values, bounds.lt, "left")
        if bounds.lte is not None:
            high = min(high, _position(values, bounds.lte, "right"))
        return low, high

    def listed(self, spans: Sequence[Span]) -> NDArray[np.int32]:
        """Their rows, rising, each once."""
        rows: NDArray[np.int32] = self._together(spans).astype(np.int32)
        if len(spans) == 1 and (spans[0].rising or _rises(rows)):
            return rows
        rows.sort()
        again = rows[1:] == rows[:-1]
        return rows[np.concatenate([[True], ~again])] if again.any() else rows

    def mask(self, spans: Sequence[Span]) -> Mask:
        """`(rows,)` whether a row is in one of them."""
        if len(spans) == 1 and not spans[0].rising and size_of(spans) > WIDE_SHARE * self._rows:
            order = self._order(spans[0].column, self._buckets, Buckets)
            if order is not None:
                return order.mask(self._columns[spans[0].column]["rows"], spans[0].start, spans[0].stop)
        mask = np.zeros(self._rows, np.bool_)
        mask[self._together(spans)] = True
        return mask

    def _together(self, spans: Sequence[Span]) -> NDArray[Any]:
        rows = [self._columns[span.column]["rows"][span.start : span.stop] for span in spans]
        return rows[0] if len(rows) == 1 else np.concatenate([np.empty(0, np.int64), *rows])

    def share(self, spans: Sequence[Span]) -> float:
        """The part of all rows that is in them, where none has several of their values."""
        return min(1.0, size_of(spans) / max(1, self._rows))

    def test(self, spans: Sequence[Span]) -> Callable[[Rows], Mask] | None:
        """Tells which of `(r,)` rows are in one of the spans; None where a row has several values, and where another
        column's order has no room: to make them in turn would cost more than they save."""
        columns: dict[Column, list[tuple[int, int]]] = {}
        for span in spans:
            columns.setdefault(span.column, []).append((span.start, span.stop))
        if not all(self._ranks.has_room(repr(column), ROW_BYTES * self._rows) for column in columns):
            return None
        orders = [(self._order(column, self._ranks, Ranks), ends) for column, ends in columns.items()]
        told = [(order, ends) for order, ends in orders if order is not None]
        if len(told) < len(orders):
            return None

        def passes(rows: Rows) -> Mask:
            found = np.zeros(len(rows), np.bool_)
            for order, ends in told:
                found |= order.within(rows, ends)
            return found

        return passes

    def _order(self, column: Column, kept: Cache[Order], kind: Callable[[NDArray[Any], int], Order]) -> Order | None:
        """None where a row has several values."""
        name = repr(column)
        known = kept.get(name)
        if known is None and column not in self._several:
            try:
                known = kind(self._columns[column]["rows"], self._rows)
            except ValueError:
                self._several.add(column)
                return None
            kept.put(name, known, known.nbytes)
        return known


def _rises(rows: NDArray[np.int32]) -> bool:
    """Whether each row is higher than the one before, as the rows of one number are where none has it twice."""
    return bool((np.diff(rows[:PEEKED]) > 0).all() and (rows[1:] > rows[:-1]).all())


def _position(values: NDArray[Any], bound: float, side: Literal["left", "right"]) -> int:
    """Where a bound falls among sorted values, compared as Python compares (integers past 2**53 keep their value)."""
    if values.dtype.kind == "i":
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            value = int(values[middle])
            if value < bound or (side == "right" and value == bound):
                low = middle + 1
            else:
                high = middle
        return low
    return int(values.searchsorted(bound, side))
