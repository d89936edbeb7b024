"""Payload columns of a segment: a filter becomes a mask without parsing payloads.

A column holds one path (as `vss.paths.written` spells it) with one type:

    keyword, bool   "values" sorted and distinct (keyword: UTF-8 "bytes" with "offsets"), and the rising "rows" of
                    value i at "starts"[i] to "starts"[i+1] (postings)
    integer, float  "values" sorted, and "rows", the row of each (a sorted permutation)
    words           of a path with long or many different texts (`vss.storage.words`); a text filter that needs more
                    than words finds by them which payloads to read
    datetime        the same for texts that say a moment, in microseconds; they are keywords too
    shape           "ones", a bit for each row (little end first) where the path leads to one value; "values" and
                    "rows", the other counts as a sorted permutation; the rising rows of "nulls" (null, or in an
                    array) and of "others" (objects and inner arrays); what would be empty is left out

An array contributes each of its elements. A path whose values do not fit a column (long strings, huge integers, too
many distinct values) is `scanned`: answered by reading payloads, as everything is past the builder's `MAX_PATHS`, and
what a path with places (`a[0]`) or with `[]` at its end says.

Form 1 had neither datetime nor shape, nor paths with quotes, and form 2 no words: there those questions are answered by
reading payloads, or by testing each of the keywords.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.filters import (
    Condition,
    DatetimeRange,
    Except,
    IsEmpty,
    IsNull,
    Match,
    MatchValue,
    Range,
    Text,
    TextMode,
    ValuesCount,
    in_range,
    text_test,
)
from vss.paths import EACH, Path, parse_path, written
from vss.storage.ids import Blobs
from vss.storage.spans import Arrays, Column, RowTest, Span, Spans, size_of
from vss.storage.words import Words
from vss.types import Mask

FORM = 3
"""What segments that are made now have."""

TESTED_PAYLOAD = 6
"""Keywords that are tested for a text in about the time that reading a payload takes."""

LISTED_SHARE, LISTED_ROWS, LISTED_MOST = 1 / 16, 16_384, 1 / 8
"""Part of a segment's rows up to which they are listed, where a column has them in lists, or so many of them up to a
larger part: that is less work than a mask of all rows as long as sorting them is."""

_SCALARS = ("keyword", "bool", "integer", "float")


class Columns:
    """A segment's columns, opened from mapped arrays.

    scanned:         paths that have no columns; their shapes stand all the same
    complete:        whether a path without columns has no scalars
    form:            which columns the segment was made with
    shapes_complete: whether a path without a shape leads nowhere
    added:           paths of which all that columns can hold is there, whatever the rest says
    """

    def __init__(
        self,
        rows: int,
        columns: dict[Column, Arrays],
        *,
        scanned: frozenset[str],
        complete: bool,
        form: int,
        shapes_complete: bool,
        added: frozenset[str],
    ) -> None:
        self._rows = rows
        self._short = max(LISTED_SHARE * rows, min(LISTED_MOST * rows, LISTED_ROWS))
        self._columns = columns
        self._scanned = scanned
        self._complete = complete
        self._form = form
        self._shapes_complete = shapes_complete and form >= 2
        self._added = added
        self._paths = frozenset(path for path, type_ in columns if type_ in _SCALARS)
        self._keywords = {
            column: Blobs(arrays["offsets"], arrays["bytes"])
            for column, arrays in columns.items()
            if column[1] == "keyword"
        }
        self._words = {path: Words(rows, arrays) for (path, type_), arrays in columns.items() if type_ == "words"}
        self._spans = Spans(rows, columns, self._keywords)

    def answers(self, condition: Condition) -> bool:
        """Whether `mask` knows; otherwise the payloads have to be read."""
        match condition:
            case Text(key):
                first = condition.mode is TextMode.PREFIX  # keywords are sorted: a slice of them
                return self._scalars(column_path(key)) and (first or _known(key) not in self._words)
            case Match() | Range():
                return self._scalars(column_path(condition.key))
            case DatetimeRange(key):
                path = column_path(key)
                return self._scalars(path) and (self._form >= 2 or path in self._added)
            case IsEmpty() | IsNull() | ValuesCount():
                return self._shape_known(column_path(condition.key))
            case Except(key):
                return self._scalars(column_path(key)) and self._shape_known(column_path(key))
        return False

    def ordered(self, key: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]] | None:
        """Type (integer, float, datetime) -> rising values and the row of each; None when payloads must be read."""
        path = column_path(key)
        if path is None or not self._scalars(path) or (self._form < 2 and path not in self._added):
            return None
        found = {type_: self._columns.get((path, type_)) for type_ in ("integer", "float", "datetime")}
        return {type_: (arrays["values"], arrays["rows"]) for type_, arrays in found.items() if arrays is not None}

    def bounds(self, condition: Condition) -> tuple[Mask, Mask]:
        """Two masks `(rows,)`: rows that pass for certain, and rows beside which none passes."""
        if self.answers(condition):
            known = self.mask(condition)
            return known, known
        path = column_path(condition.key) if isinstance(condition, Text) else None
        if not isinstance(condition, Text) or path not in self._words:
            return np.zeros(self._rows, np.bool_), np.ones(self._rows, np.bool_)
        sure, maybe = self._words[path].bounds(condition)
        names = self._keywords.get((path, "keyword"))
        if names is not None and len(names) < TESTED_PAYLOAD * np.count_nonzero(maybe & ~sure):
            sure = maybe = self._of(*self._text(path, condition))
        return sure, maybe

    def passing(self, condition: Condition) -> NDArray[np.int32] | Mask | None:
        """The rows that pass, rising, where columns have them in lists and these are short; else a mask `(rows,)`; None
        where `mask` does not know either."""
        if not self.answers(condition):
            path = column_path(condition.key) if isinstance(condition, Text) else None
            if not isinstance(condition, Text) or path not in self._words:
                return None
            found = self._words[path].listed(condition)
            return None if found is None else found.astype(np.int32)
        spans = self._spans_of(condition)
        if spans is None:
            return self.mask(condition)
        return self._spans.mask(spans) if size_of(spans) > self._short else self._spans.listed(spans)

    def test(self, condition: Condition) -> RowTest | None:
        """What tells which of some rows pass without a look at the others; None where nothing does."""
        spans = self._spans_of(condition)
        return None if spans is None else RowTest(self._spans.share(spans), partial(self._spans.test, spans))

    def _spans_of(self, condition: Condition) -> list[Span] | None:
        """Where the rows that pass stand; None where they do not stand side by side, or not all in columns."""
        if isinstance(condition, Match | Range | DatetimeRange) and self.answers(condition):
            return self._spans.of(_known(condition.key), condition)
        return None

    def _scalars(self, path: str | None) -> bool:
        if path is None or path in self._scanned:
            return False
        if path in self._added:
            return True
        return (self._form >= 2 or '"' not in path) and (self._complete or path in self._paths)

    def _shape_known(self, path: str | None) -> bool:
        return path is not None and (self._shapes_complete or path in self._added or (path, "shape") in self._columns)

    def mask(self, condition: Condition) -> Mask:
        """`(rows,)` which rows pass, of a condition that `answers`."""
        spans = self._spans_of(condition)
        if spans is not None:
            return self._spans.mask(spans)
        match condition:
            case Except(key, values):
                return self._of(*self._except(_known(key), values))
            case Text(key):
                return self._of(*self._text(_known(key), condition))
            case ValuesCount(key):
                return self._counted(_known(key), condition)
            case IsEmpty(key):
                return ~self._counted(_known(key), ValuesCount(key, gte=1))
            case IsNull(key):
                return self._of(self._shape(_known(key)).get("nulls"))
        raise ValueError(f"no column answers {condition}")

    def _of(self, *rows: NDArray[Any] | None) -> Mask:
        mask = np.zeros(self._rows, np.bool_)
        for some in rows:
            if some is not None:
                mask[some] = True
        return mask

    def _except(self, path: str, values: tuple[MatchValue, ...]) -> Iterator[NDArray[Any] | None]:
        left_out: dict[str, list[tuple[int, int]]] = {}
        for span in filter(None, (self._spans.find(path, value) for value in values)):
            left_out.setdefault(span.column[1], []).append((span.start, span.stop))
        for type_ in _SCALARS:
            arrays = self._columns.get((path, type_))
            if arrays is not None:
                at = 0
                for start, stop in sorted(left_out.get(type_, [])):
                    yield arrays["rows"][at:start]
                    at = stop
                yield arrays["rows"][at:]
        yield self._shape(path).get("others")

    def _text(self, path: str, condition: Text) -> Iterator[NDArray[Any]]:
        names = self._keywords.get((path, "keyword"))
        if names is None:
            return
        arrays, test = self._columns[path, "keyword"], text_test(condition)
        if condition.mode is TextMode.PREFIX:
            name = condition.text.encode(errors="surrogatepass")
            start, stop = names.lower_bound(name), names.lower_bound(name + b"\xff")
            yield arrays["rows"][arrays["starts"][start] : arrays["starts"][stop]]
            return
        for at in range(len(names)):
            if test(names[at].decode()):
                yield arrays["rows"][arrays["starts"][at] : arrays["starts"][at + 1]]

    def _range(self, path: str, type_: str, bounds: Range | DatetimeRange | ValuesCount) -> NDArray[Any] | None:
        arrays = self._columns.get((path, type_))
        if arrays is None or "values" not in arrays:
            return None
        low, high = self._spans.ends(path, type_, bounds)
        rows: NDArray[Any] = arrays["rows"][low:high]
        return rows

    def _shape(self, path: str) -> Arrays:
        return self._columns.get((path, "shape"), {})

    def _counted(self, path: str, bounds: ValuesCount) -> Mask:
        shape = self._shape(path)
        mask = self._of(self._range(path, "shape", bounds))
        single = np.zeros(self._rows, np.bool_)
        if "ones" in shape:
            bits = np.unpackbits(shape["ones"], bitorder="little")[: self._rows]
            single[: len(bits)] = bits
        if in_range(1, bounds):
            mask |= single
        if in_range(0, bounds):
            # A row without any value counts none.
            mask |= ~(single | self._of(shape.get("rows")))
        return mask


@lru_cache(4096)
def column_path(key: str) -> str | None:
    """The path of the column that may answer a key; None where only the payload can."""
    path = parse_path(key)
    return written(path) if _is_column(path) else None


def _is_column(path: Path) -> bool:
    each = [step == EACH for step in path]
    places = any(isinstance(step, int) and step != EACH for step in path)
    return not places and not each[-1] and not any(map(all, pairwise(each)))


def _known(key: str) -> str:
    """Of a key that has one."""
    path = column_path(key)
    assert path is not None
    return path
