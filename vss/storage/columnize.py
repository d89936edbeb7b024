"""Makes the payload columns of a segment as its rows come; `vss.storage.columns` says what they hold and reads them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vss.filters import holds_null, value_count
from vss.instants import parse_instant
from vss.paths import written_name
from vss.storage.spans import Arrays, Column
from vss.storage.wordize import Texts

MAX_PATHS = 64
MAX_SHAPES = 256
"""Paths, objects on the way included, whose shape is kept."""

MAX_KEYWORD_BYTES = 256
MAX_DISTINCT_BYTES = 64 << 20
"""Bytes of distinct keywords that one column may hold while it is built."""

MAX_TESTED = 512
"""Distinct keywords up to which a path gets no words: a text filter tests each of them."""

MAX_POSTINGS = 32 << 20
"""Pairs of word and row that all paths together may hold, 8 bytes each while they are gathered."""


FEW = 8
"""Rows that are alike up to which each is taken by itself."""

_SCALARS: dict[type, tuple[str, str]] = {
    bool: ("bool", "q"),
    int: ("integer", "q"),
    float: ("float", "d"),
    str: ("keyword", "q"),
}
"""Type of a JSON value -> its column, and what an array of its values is made of."""


@dataclass(slots=True)
class _Pairs:
    """(value, row) pairs as they come. Keywords and bools are codes into `distinct`."""

    values: array[Any]
    rows: array[int] = field(default_factory=lambda: array("q"))
    distinct: dict[Any, int] = field(default_factory=dict)
    distinct_bytes: int = 0


@dataclass(slots=True)
class _Shape:
    """What a path leads to in each row, apart from the scalars themselves."""

    ones: bytearray = field(default_factory=bytearray)
    counts: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    nulls: array[int] = field(default_factory=lambda: array("q"))
    others: array[int] = field(default_factory=lambda: array("q"))

    def put_one(self, row: int) -> None:
        at = row >> 3
        if at >= len(self.ones):
            self.ones.extend(bytes(at + 1 - len(self.ones)))
        self.ones[at] |= 1 << (row & 7)

    def put(self, value: dict[str, Any] | list[Any] | None, row: int) -> None:
        count = value_count(value)
        if count == 1:
            self.put_one(row)
        else:
            self.counts.append(count)
            self.rows.append(row)
        if holds_null(value):
            self.nulls.append(row)
        if isinstance(value, dict) or (value and any(isinstance(one, dict | list) for one in value)):
            self.others.append(row)

    def arrays(self) -> Arrays:
        counts, rows = np.asarray(self.counts, np.int64), np.asarray(self.rows, np.int64)
        order = np.argsort(counts, kind="stable")
        whole: Arrays = {
            "ones": np.frombuffer(bytes(self.ones), np.uint8),
            "values": counts[order],
            "rows": rows[order],
            "nulls": np.asarray(self.nulls, np.int64),
            "others": np.asarray(self.others, np.int64),
        }
        return {role: one for role, one in whole.items() if len(one)}


class ColumnsBuilder:
    """Collects the columns of payloads that are added in the order of their rows.

    scanned:         paths whose values do not fit a column
    complete:        whether every other path has its columns; `shapes_complete` says the same of shapes
    """

    def __init__(self, only: str | None = None) -> None:
        """only: the one path whose columns are made; None for all."""
        self._only = only
        self._columns: dict[Column, _Pairs] = {}
        self._paths: set[str] = set()
        self._shapes: dict[str, _Shape] = {}
        self._names: dict[str, str | None] = {}
        self._texts: dict[str, Texts] = {}
        self._wordless: set[str] = set()
        self._postings = 0
        self.scanned: set[str] = set()
        self.complete = True
        self.shapes_complete = True

    def add(self, row: int, payload: dict[str, Any]) -> None:
        """Take one parsed payload. Rows come in rising order."""
        for name, value in payload.items():
            self._member(name, value, row)

    def add_all(self, row: int, payloads: Sequence[dict[str, Any]]) -> None:
        """Take the parsed payloads of the rows from `row` on, of which those that are alike are taken together."""
        for names, run in groupby(payloads, key=tuple):
            alike = list(run)
            for name in names:
                self._members_of(name, [payload[name] for payload in alike], row)
            row += len(alike)

    def _members_of(self, name: str, values: list[Any], first: int) -> None:
        """Values of one name in the rows from `first` on."""
        types = set(map(type, values))
        rows: Sequence[int] = range(first, first + len(values))
        path = self._step(name)
        if len(values) < FEW or len(types) > 1 or path is None or self._only not in (None, path):
            for row, value in zip(rows, values, strict=True):
                self._member(name, value, row)
            return
        type_ = types.pop()
        scalars: Sequence[Any] = values
        if type_ is list:
            counts = list(map(len, values))
            scalars = [one for value in values for one in value]
            rows = [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]
            inside = set(map(type, scalars))
            type_ = inside.pop() if len(inside) == 1 and min(counts) else dict
        if type_ not in _SCALARS or not self._fits(path, type_, scalars):
            for row, value in enumerate(values, first):
                self._member(name, value, row)
            return
        shape = self._shape(path)
        if shape is not None:
            for row, value in enumerate(values, first):
                if scalars is values or len(value) == 1:
                    shape.put_one(row)
                else:
                    shape.counts.append(len(value))
                    shape.rows.append(row)
        if type_ is str:
            self._keywords(path, scalars, rows)
        elif type_ is bool:
            for value, row in zip(scalars, rows, strict=True):
                self._code(path, "bool", value, 1, row)
        else:
            pairs = self._pairs_of(path, *_SCALARS[type_])
            pairs.values.extend(scalars)
            pairs.rows.extend(rows)

    def _fits(self, path: str, type_: type, values: Sequence[Any]) -> bool:
        """Whether the path has its columns, and goes on having them with these values of one type."""
        if path in self.scanned:
            return False
        if path not in self._paths:
            if len(self._paths) == MAX_PATHS:
                return False
            self._paths.add(path)
        if type_ is int:
            return bool(min(values) >= -(1 << 63) and max(values) < 1 << 63)
        if type_ is str:
            keywords = self._columns.get((path, "keyword"))
            taken = keywords.distinct_bytes if keywords else 0
            longest = max(map(len, values))
            return longest <= MAX_KEYWORD_BYTES and taken + sum(map(len, set(values))) <= MAX_DISTINCT_BYTES
        return True

    def _keywords(self, path: str, values: Sequence[str], rows: Sequence[int]) -> None:
        pairs = self._pairs_of(path, "keyword", "q")
        for value in dict.fromkeys(values):
            if value not in pairs.distinct:
                pairs.distinct[value] = len(pairs.distinct)
                pairs.distinct_bytes += len(value)
        pairs.values.extend(map(pairs.distinct.__getitem__, values))
        pairs.rows.extend(rows)
        moments = {value: parse_instant(value) for value in dict.fromkeys(values)}
        if any(moment is not None for moment in moments.values()):
            for value, row in zip(values, rows, strict=True):
                moment = moments[value]
                if moment is not None:
                    self._pairs(path, "datetime", "q", moment, row)

    def _step(self, name: str) -> str | None:
        """A name as a step of a path, or None where no path is written with it."""
        if name not in self._names:
            self._names[name] = written_name(name)
        return self._names[name]

    def _shape(self, path: str) -> _Shape | None:
        shape = self._shapes.get(path)
        if shape is None:
            if len(self._shapes) < MAX_SHAPES:
                shape = self._shapes[path] = _Shape()
            else:
                self.shapes_complete = False
        return shape

    def _member(self, name: str, value: Any, row: int) -> None:
        for path, below in self._members({name: value}, ""):
            if self._only is not None and path != self._only:
                continue
            shape = self._shape(path)
            if below is None or isinstance(below, dict | list):
                if shape is not None:
                    shape.put(below, row)
                for one in below if isinstance(below, list) else ():
                    if one is not None and not isinstance(one, dict | list):
                        self._scalar(path, one, row)
            else:
                if shape is not None:
                    shape.put_one(row)
                self._scalar(path, below, row)

    def _members(self, value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        """Every (path, value) whose path ends in a name and has no place in it: what a column can answer."""
        for name, below in value.items():
            step = self._step(name)
            if step is None:
                continue
            path = prefix + step
            yield path, below
            if isinstance(below, dict):
                yield from self._members(below, path + ".")
            elif isinstance(below, list):
                for one in below:
                    if isinstance(one, dict):
                        yield from self._members(one, path + "[].")

    def _scalar(self, path: str, value: bool | int | float | str, row: int) -> None:
        if path in self.scanned:
            if isinstance(value, str) and path not in self._wordless:
                self._text(path, value, row)
            return
        if path not in self._paths:
            if len(self._paths) == MAX_PATHS:
                self.complete = False
                return
            self._paths.add(path)
        if not self._put(path, value, row):
            self.scanned.add(path)
            if (path, "keyword") in self._columns:
                texts = self._words_of(self._columns[path, "keyword"])
                self._keep_words(path, texts, texts.postings)
            if isinstance(value, str) and len(value) > MAX_KEYWORD_BYTES and path not in self._wordless:
                self._text(path, value, row)
            self._columns = {column: pairs for column, pairs in self._columns.items() if column[0] != path}

    def _text(self, path: str, value: str, row: int) -> None:
        texts = self._texts.setdefault(path, Texts())
        self._keep_words(path, texts, texts.add(value, row))

    def _keep_words(self, path: str, texts: Texts, new: int) -> None:
        """Keep them, of whose postings so many are new, or nothing of the path's where they are too many."""
        self._texts[path] = texts
        self._postings += new
        if texts.too_many or self._postings > MAX_POSTINGS:
            self._postings -= texts.postings
            del self._texts[path]
            self._wordless.add(path)

    @staticmethod
    def _words_of(keywords: _Pairs) -> Texts:
        texts = Texts()
        texts.add_all(keywords.distinct, np.asarray(keywords.values), np.asarray(keywords.rows, np.int64))
        return texts

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
                moment = parse_instant(value)
                if moment is not None:
                    self._pairs(path, "datetime", "q", moment, row)
                return pairs.distinct_bytes <= MAX_DISTINCT_BYTES
        return True

    def _pairs_of(self, path: str, type_: str, code: str) -> _Pairs:
        pairs = self._columns.get((path, type_))
        if pairs is None:
            pairs = self._columns[path, type_] = _Pairs(array(code))
        return pairs

    def _pairs(self, path: str, type_: str, code: str, value: float, row: int) -> _Pairs:
        pairs = self._pairs_of(path, type_, code)
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
        """The arrays of each column. Nothing can be added after it."""
        for path, texts in sorted(self._texts.items()):
            yield (path, "words"), texts.arrays()
        for (path, type_), pairs in sorted(self._columns.items()):
            values, rows = np.asarray(pairs.values), np.asarray(pairs.rows, np.int64)
            if type_ in ("keyword", "bool"):
                yield (path, type_), _postings(type_, pairs.distinct, values, rows)
                if type_ == "keyword" and len(pairs.distinct) > MAX_TESTED:
                    texts = self._words_of(pairs)
                    self._keep_words(path, texts, texts.postings)
                    if self._texts.pop(path, None):
                        yield (path, "words"), texts.arrays()
            else:
                order = np.argsort(values, kind="stable")
                yield (path, type_), {"values": values[order], "rows": rows[order]}
        for path, shape in sorted(self._shapes.items()):
            yield (path, "shape"), shape.arrays()


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
