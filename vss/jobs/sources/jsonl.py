"""JSON Lines: one JSON object per line, UTF-8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from vss.jobs.sources.row import Row

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 4 << 20
"""Longest line: a vector of 65,536 numbers and a payload of 1 MiB fit."""

BOM = b"\xef\xbb\xbf"
"""What some programs write before UTF-8."""


class Readable(Protocol):
    """Bytes in order."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class JsonLines:
    """A JSON Lines file. A line that is broken, too long or no object is a row with a fault; empty ones are skipped.

    total:    bytes of the file
    position: how many of them are read; None when they are those of the lines, as in a file that is not compressed
    """

    def __init__(self, file: Readable, total: int, position: Callable[[], int] | None = None) -> None:
        self.total = total
        self._position = position
        self._file = file

    def rows(self) -> Iterator[Row]:
        """As `Source.rows`."""
        end = 0
        for line, (raw, size) in enumerate(bounded_lines(self._file), start=1):
            end = self._position() if self._position else end + size
            if line == 1:
                raw = raw.removeprefix(BOM)
            if size > MAX_LINE_BYTES:
                fault = f"the line is longer than {MAX_LINE_BYTES} bytes"
                yield Row(line=line, fields=None, fault=fault, size=len(raw), end=end, raw=raw)
            elif raw and not raw.isspace():
                yield _parsed(line, raw, end)


def _parsed(line: int, raw: bytes, end: int) -> Row:
    fields: dict[str, Any] | None = None
    fault = None
    try:
        value = msgspec.json.decode(raw)
        if isinstance(value, dict):
            fields = value
        else:
            fault = f"got {type(value).__name__}, wanted a JSON object"
    except UnicodeDecodeError as error:
        fault = f"not UTF-8: {error.reason}"
    except (ValueError, RecursionError) as error:
        fault = f"not JSON: {error}"
        if b"NaN" in raw or b"Infinity" in raw:
            fault += " (NaN and Infinity are not JSON)"
    return Row(line=line, fields=fields, fault=fault, size=len(raw), end=end, raw=raw)


def bounded_lines(file: Readable) -> Iterator[tuple[bytes, int]]:
    """Each line without its newline, and how many bytes it takes in the file; of an overlong one only its start."""
    kept, size = b"", 0
    while block := file.read(BLOCK_BYTES):
        first, *others = block.split(b"\n")
        for piece in others:
            # A newline came: what was kept is complete with `first`.
            yield (kept + first if size + len(first) <= MAX_LINE_BYTES else kept), size + len(first) + 1
            kept, size, first = b"", 0, piece
        size += len(first)
        kept = kept + first if size <= MAX_LINE_BYTES else kept
    if size:
        yield kept, size
