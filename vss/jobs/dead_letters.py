"""Rows that an import refused: one JSON line each, so that they can be mended and imported again; and how many."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from vss.errors import VssError, invalid
from vss.jobs.sources.row import Row
from vss.types import PointId

DEFAULT_MAX_BAD_SHARE = 0.1

FREE = 10
"""Refused rows that are never too many, so that one bad row does not stop a tiny file."""

CERTAINTY = 2.0
"""How far past the cap the expected share must be to stop before the end: how many rows come is only estimated."""


class OnError(StrEnum):
    """What an import does with a row that cannot be stored."""

    DEAD_LETTER = "dead-letter"
    ABORT = "abort"


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused row: file and line (from 1), its id where it has one, why, and the row itself, cut off when long."""

    line: int
    reason: str
    id: PointId | None = None
    row: str = ""
    file: str = ""


class DeadLetters:
    """The file of refused rows; made when the first one comes.

    on_error:  ABORT makes the first refused row a VssError (INVALID)
    max_share: of all rows, 0 to 1, that may be refused
    """

    def __init__(
        self, path: Path, on_error: OnError = OnError.DEAD_LETTER, max_share: float = DEFAULT_MAX_BAD_SHARE
    ) -> None:
        self.path = path
        self.count = 0
        self.first: Letter | None = None
        self._on_error = on_error
        self._max_share = max_share
        self._file: BinaryIO | None = None

    def go_on(self, path: Path, count: int, size: int) -> None:
        """Go on after `count` letters of `size` bytes, which a process that was killed has written.

        Raises OSError or ValueError when they are not there.
        """
        self.close()
        self.path, self.count, self._file, self.first = path, 0, None, None
        if not size:
            path.unlink(missing_ok=True)
            return
        if path.stat().st_size < size:
            raise ValueError("the file of dead letters is shorter than it was")
        self._file = open(path, "r+b")  # noqa: SIM115 - closed by close()
        self.first = msgspec.json.decode(self._file.readline(), type=Letter)
        self._file.truncate(size)
        self._file.seek(size)
        self.count = count

    def add(self, row: Row, reason: str, point_id: PointId | None = None) -> None:
        """Write one row down. VssError (INVALID) when none may be refused."""
        if self._on_error is OnError.ABORT:
            raise invalid(
                f"line {row.line} of {row.file} cannot be stored: {reason}; nothing was published",
                field="uri",
                hint="mend it, or let bad rows be written down with --on-error dead-letter",
            )
        letter = Letter(row.line, reason, point_id, row.shown(), row.file)
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "xb")  # noqa: SIM115 - closed by close()
        self.first = self.first or letter
        self._file.write(msgspec.json.encode(letter) + b"\n")
        self.count += 1

    def check_share(self, rows: int, part: float = 1.0) -> None:
        """VssError (INVALID) when too many of so many rows were refused. part: of the source that they are."""
        if self.count <= FREE:
            return
        expected = rows if part >= 1 else CERTAINTY * rows / part if part > 0 else float("inf")
        if self.count > self._max_share * expected:
            assert self.first is not None
            raise too_many(self, rows, f"wanted at most {self._max_share:.1%}")

    def flush(self) -> int:
        """Hand the letters to the operating system; the bytes of their file."""
        if self._file is None:
            return 0
        self._file.flush()
        return self._file.tell()

    def sync(self) -> None:
        """Make the letters survive a power cut."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def too_many(rejected: DeadLetters, rows: int, wanted: str) -> VssError:
    """The error of an import that refused so many of its rows that it publishes nothing."""
    first, count = rejected.first, rejected.count
    if first is None:
        return invalid("there are no rows; nothing was published", field="uri")
    got = f"all {count:,} rows were refused" if count == rows else f"{count:,} of {rows:,} rows were refused"
    return invalid(
        f"{got} ({count / rows:.1%}), {wanted}; the first (line {first.line} of {first.file}) "
        f"because of {first.reason}; nothing was published",
        field="uri",
        hint=f"every reason stands in {rejected.path}; mend the rows, or raise --max-bad-share",
    )
