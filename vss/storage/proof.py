"""How a log is known to say what was written to it. SQLite checks the shape of its pages, not what they hold.

row_sum    each operation carries a checksum of its own bytes
in_order   sequence numbers have no gap and reach to the last one given, so that no row is missing
Witness    how far the log had come, in a file beside it. SQLite takes a damaged frame of its write-ahead log for the
           torn end of an unfinished commit and silently forgets all behind it (https://sqlite.org/wal.html). This file
           is written after each commit and not synced: it is never ahead of what is durable, and a kill keeps it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from vss.errors import Code, VssError

_HEAD = struct.Struct("<qqq")
_WITNESS = struct.Struct("<qqI")

HINT = "`vss doctor` says what is lost, and what can be repaired"

Row = tuple[int, bytes, bytes, bytes, int, int | None]
"""kind, key, vectors, payload, seq, sum"""


def row_sum(kind: int, key: bytes, vectors: bytes, payload: bytes) -> int:
    """The checksum that stands beside an operation."""
    return zlib.crc32(b"".join((_HEAD.pack(kind, len(key), len(vectors)), key, vectors, payload)))


def in_order(rows: Iterable[Row], start: int, last: int, unsummed: int, name: str) -> Iterator[Row]:
    """The rows with `start` < seq <= `last`, checked. VssError (CORRUPT) when one is damaged or missing.

    unsummed: rows up to this one were written without a sum
    """
    expected = start
    for row in rows:
        expected += 1
        kind, key, vectors, payload, seq, sum_ = row
        if seq != expected:
            raise damaged(name, f"got operation {seq} where {expected} should be")
        try:
            sound = seq <= unsummed if sum_ is None else row_sum(kind, key, vectors, payload) == sum_
        except (TypeError, struct.error):  # damage can turn a value into one of another type
            sound = False
        if not sound:
            raise damaged(name, f"operation {seq} does not have the bytes that it was written with")
        yield row
    if expected != max(last, start):
        raise damaged(name, f"its operations end at {expected}, wanted {last}")


def damaged(name: str, what: str) -> VssError:
    """The error for a log that does not say what was written."""
    return VssError(Code.CORRUPT, f"{name} is damaged: {what}", hint=HINT)


class Witness:
    """The file that says how far a log has come. One thread at a time writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        """Whether there is one, whatever it holds."""
        return self._path.exists()

    def read(self) -> tuple[int, int]:
        """(last operation, generation) that were acknowledged; zeros where none can be read."""
        try:
            data = self._path.read_bytes()
            seq, generation, sum_ = _WITNESS.unpack(data)
        except (OSError, struct.error):
            return 0, 0
        return (seq, generation) if zlib.crc32(data[:16]) == sum_ else (0, 0)

    def write(self, seq: int, generation: int) -> None:
        """Note it. A failure is none: an older word is true as well."""
        data = struct.pack("<qq", seq, generation)
        data += struct.pack("<I", zlib.crc32(data))
        with suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(handle, data, 0)
            finally:
                os.close(handle)
