"""CSV after RFC 4180: a header, commas, quotes that may hold commas, quotes and newlines; UTF-8.

Every value stays the text that it is, ids too; only the vector is read as the JSON list that its cell holds.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from vss.errors import invalid
from vss.jobs.sources.jsonl import BOM, MAX_LINE_BYTES, Readable, bounded_lines
from vss.jobs.sources.row import Row


class Csv:
    """A CSV file. A record with other than the header's count of cells is a row with a fault; empty lines are skipped.

    total:    bytes of the file
    position: how many of them are read
    VssError (INVALID) when the header names a column twice or not at all, or has no column of the vector.
    """

    def __init__(self, file: Readable, total: int, vector_field: str | None, position: Callable[[], int]) -> None:
        self.total = total
        self._vector_field = vector_field
        self._position = position
        # A limit of the whole process; a vector in one cell is longer than the usual one.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        self._text = _Text(file)
        self._reader = csv.reader(self._text, strict=True)
        self._names = self._header()

    def rows(self) -> Iterator[Row]:
        """As `Source.rows`; a row's line is the first one of its record."""
        while True:
            self._text.begin()
            line = self._text.line + 1
            fields: dict[str, Any] | None = None
            fault = None
            try:
                cells = next(self._reader, None)
                if cells is None:
                    return
                if not cells:
                    continue
                "".join(cells).encode()
                if len(cells) == len(self._names):
                    fields = self._fields(cells)
                else:
                    fault = f"got {len(cells)} cells, wanted {len(self._names)} as in the header"
            except UnicodeEncodeError:
                fault = "not UTF-8"
            except csv.Error as error:
                fault = f"not CSV: {error}"
            raw = b"\n".join(self._text.record)
            yield Row(line=line, fields=fields, fault=fault, size=len(raw), end=self._position(), raw=raw)

    def _header(self) -> list[str]:
        self._text.begin()
        try:
            names = next(self._reader, None)
            if names is None:
                return []  # an empty file
            "".join(names).encode()
        except (csv.Error, UnicodeEncodeError) as error:
            raise invalid(f"the first line is no CSV header: {error}", field="uri") from error
        if not all(names) or len(set(names)) < len(names):
            raise invalid(f"got the header {names}, wanted a name for each column, none twice", field="uri")
        if self._vector_field is not None and self._vector_field not in names:
            raise invalid(
                f"got no column {self._vector_field!r}, the file has {', '.join(names)}", field="vector_field"
            )
        return names

    def _fields(self, cells: list[str]) -> dict[str, Any]:
        fields: dict[str, Any] = dict(zip(self._names, cells, strict=True))
        if self._vector_field is not None:
            cell = fields[self._vector_field]
            # The gate refuses a vector that stays a text, and names the row's id.
            with suppress(ValueError, RecursionError):
                fields[self._vector_field] = msgspec.json.decode(cell) if cell else None
        return fields


class _Text:
    """Lines for the reader; an iterator of its own class, as it must go on after an error.

    line:   how many are read
    record: the lines since `begin`
    """

    def __init__(self, file: Readable) -> None:
        self.line = 0
        self.record: list[bytes] = []
        self._size = 0
        self._lines = bounded_lines(file)

    def begin(self) -> None:
        """A record begins."""
        self.record, self._size = [], 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        raw, size = next(self._lines)
        self.line += 1
        if self.line == 1:
            raw = raw.removeprefix(BOM)
        self.record.append(raw)
        self._size += size
        if self._size > MAX_LINE_BYTES:
            raise csv.Error(f"the record is longer than {MAX_LINE_BYTES} bytes; is a quote not closed?")
        # Bytes that are no UTF-8 become lone surrogates, found when the record is whole.
        return raw.decode(errors="surrogateescape") + "\n"
