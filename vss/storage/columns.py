"""Payload columns of a segment: a filter becomes a mask without parsing payloads.

A column holds one path with one type:

    keyword, bool   "values" sorted and distinct (keyword: UTF-8 "bytes" with "offsets"), and the rising "rows" of
                    value i at "starts"[i] to "starts"[i+1] (postings)
    integer, float  "values" sorted, and "rows", the row of each (a sorted permutation)

An array contributes each of its elements. A path whose values do not fit a column (long strings, huge integers, too
many distinct values) is `scanned`: answered by reading payloads, as everything is past `MAX_PATHS` paths.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.filters import Match, Range
from vss.storage.ids import Blobs
from vss.types import Mask

MAX_PATHS = 64
MAX_KEYWORD_BYTES = 256
MAX_DISTINCT_BYTES = 64 << 20
"""Bytes of distinct keywords that one column may hold while it is built."""

Arrays = dict[str, NDArray[Any]]
Column = tuple[str, str]
"""(path, type), type one of "keyword", "bool", "integer", "float"."""


@dataclass(slots=True)
class _Pairs:
    """(value, row) pairs as they come. Keywords and bools are codes into `distinct`."""

    values: array[Any]
    rows: array[int] = field(default_factory=lambda: array("q"))
    distinct: dict[Any, int] = field(default_factory=dict)
    distinct_bytes: int = 0


class ColumnsBuilder:
    """Collects the columns of payloads that are added row by row."""

    def __init__(self) -> None:
        self._columns: dict[Column, _Pairs] = {}
        self._paths: set[str] = set()
        self.scanned: set[str] = set()
        self.complete = True

    def add(self, row: int, payload: dict[str, Any]) -> None:
        """Take one parsed payload."""
        for path, value in _scalars(payload, ""):
            if path in self.scanned:
                continue
            if path not in self._paths:
                if len(self._paths) == MAX_PATHS:
                    self.complete = False
                    continue
                self._paths.add(path)
            if not self._put(path, value, row):
                self.scanned.add(path)
                self._columns = {column: pairs for column, pairs in self._columns.items() if column[0] != path}

    def _put(self, path: str, value: bool | int | float | str, row: int) -> bool:
        match value:
            case bool():
                self._code(path, "bool", value, 1, row)
            case int():
                if not -(1 << 63) <= value < 1 << 63:
                    return False
                self._pairs(path, "integer", "q", value, row)
            case float():
                self._pairs(path, "float", "d", value, row)
            case str():
                if len(value) > MAX_KEYWORD_BYTES:
                    return False
                pairs = self._code(path, "keyword", value, len(value), row)
                return pairs.distinct_bytes <= MAX_DISTINCT_BYTES
        return True

    def _pairs(self, path: str, type_: str, code: str, value: float, row: int) -> _Pairs:
        pairs = self._columns.get((path, type_))
        if pairs is None:
            pairs = self._columns[path, type_] = _Pairs(array(code))
        pairs.values.append(value)
        pairs.rows.append(row)
        return pairs

    def _code(self, path: str, type_: str, value: bool | str, size: int, row: int) -> _Pairs:
        known = self._columns.get((path, type_))
        code = known.distinct.get(value) if known else None
        new = code is None
        pairs = self._pairs(path, type_, "q", len(known.distinct) if known and new else code or 0, row)
        if new:
            pairs.distinct[value] = pairs.values[-1]
            pairs.distinct_bytes += size
        return pairs

    def finish(self) -> Iterator[tuple[Column, Arrays]]:
        """The arrays of each column."""
        for (path, type_), pairs in sorted(self._columns.items()):
            values, rows = np.asarray(pairs.values), np.asarray(pairs.rows, np.int64)
            if type_ in ("keyword", "bool"):
                yield (path, type_), _postings(type_, pairs.distinct, values, rows)
            else:
                order = np.argsort(values, kind="stable")
                yield (path, type_), {"values": values[order], "rows": rows[order]}


def _postings(type_: str, distinct: dict[Any, int], codes: NDArray[Any], rows: NDArray[Any]) -> Arrays:
    names = sorted(distinct, key=lambda name: name.encode() if isinstance(name, str) else name)
    rank = np.empty(len(names), np.int64)
    rank[[distinct[name] for name in names]] = np.arange(len(names))
    codes = rank[codes]
    order = np.argsort(codes, kind="stable")
    arrays: Arrays = {"starts": np.searchsorted(codes[order], np.arange(len(names) + 1)), "rows": rows[order]}
    if type_ == "bool":
        return arrays | {"values": np.asarray(names, np.bool_)}
    texts = [name.encode() for name in names]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return arrays | {"offsets": offsets, "bytes": np.frombuffer(b"".join(texts), np.uint8)}


def _scalars(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, bool | int | float | str]]:
    """Every (path, scalar) that `filters.values_at` can reach."""
    for name, below in value.items():
        # A name with a dot or brackets cannot be written in a path, so no filter can reach it.
        if "." in name or name.endswith("[]"):
            continue
        path = prefix + name
        if isinstance(below, dict):
            yield from _scalars(below, path + ".")
        elif isinstance(below, list):
            for one in below:
                if isinstance(one, dict):
                    yield from _scalars(one, path + "[].")
                elif one is not None and not isinstance(one, list):
                    yield path, one
        elif below is not None:
            yield path, below


class Columns:
    """A segment's columns, opened from mapped arrays."""

    def __init__(self, rows: int, columns: dict[Column, Arrays], scanned: frozenset[str], complete: bool) -> None:
        self._rows = rows
        self._columns = columns
        self._scanned = scanned
        self._complete = complete
        self._paths = frozenset(path for path, _ in columns)
        self._keywords = {
            column: Blobs(arrays["offsets"], arrays["bytes"])
            for column, arrays in columns.items()
            if column[1] == "keyword"
        }

    def mask(self, condition: Match | Range) -> Mask | None:
        """`(rows,)` which rows pass, or None when the path has to be answered by reading payloads."""
        path = condition.key
        if path in self._scanned or path.endswith("[]") or (path not in self._paths and not self._complete):
            return None
        mask = np.zeros(self._rows, np.bool_)
        for rows in self._match(condition) if isinstance(condition, Match) else self._range(condition):
            mask[rows] = True
        return mask

    def _match(self, condition: Match) -> Iterator[NDArray[Any]]:
        for value in condition.values:
            type_ = "bool" if isinstance(value, bool) else "integer" if isinstance(value, int) else "keyword"
            arrays = self._columns.get((condition.key, type_))
            if arrays is None:
                continue
            if type_ == "integer":
                if -(1 << 63) <= value < 1 << 63:  # type: ignore[operator]
                    low, high = (np.searchsorted(arrays["values"], value, side) for side in ("left", "right"))
                    yield arrays["rows"][low:high]
            else:
                at = self._find(condition.key, type_, value)
                if at >= 0:
                    yield arrays["rows"][arrays["starts"][at] : arrays["starts"][at + 1]]

    def _find(self, path: str, type_: str, value: object) -> int:
        if isinstance(value, str):
            names = self._keywords[path, type_]
            wanted, low, high = value.encode(), 0, len(names)
            while low < high:
                middle = (low + high) // 2
                if names[middle] < wanted:
                    low = middle + 1
                else:
                    high = middle
            return low if low < len(names) and names[low] == wanted else -1
        found = np.flatnonzero(self._columns[path, type_]["values"] == value)
        return int(found[0]) if len(found) else -1

    def _range(self, bounds: Range) -> Iterator[NDArray[Any]]:
        for type_ in ("integer", "float"):
            arrays = self._columns.get((bounds.key, type_))
            if arrays is None:
                continue
            values, low, high = arrays["values"], 0, len(arrays["values"])
            for bound, side in ((bounds.gt, "right"), (bounds.gte, "left")):
                if bound is not None:
                    low = max(low, _position(values, bound, side))
            for bound, side in ((bounds.lt, "left"), (bounds.lte, "right")):
                if bound is not None:
                    high = min(high, _position(values, bound, side))
            yield arrays["rows"][low:high]


def _position(values: NDArray[Any], bound: float, side: str) -> int:
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
    return int(np.searchsorted(values, bound, "left" if side == "left" else "right"))
