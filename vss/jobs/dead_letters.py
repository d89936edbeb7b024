"""Rows that an import refused: one JSON line each, so that they can be mended and imported again."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from vss.jobs.sources.row import Row
from vss.types import PointId


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused row: file and line (from 1), its id where it has one, why, and the row itself, cut off when long."""

    line: int
    reason: str
    id: PointId | None = None
    row: str = ""
    file: str = ""


class DeadLetters:
    """The file of refused rows; made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.first: Letter | None = None
        self._file: BinaryIO | None = None

    def add(self, row: Row, reason: str, point_id: PointId | None = None) -> None:
        """Write one row down."""
        letter = Letter(row.line, reason, point_id, row.shown(), row.file)
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "xb")  # noqa: SIM115 - closed by close()
            self.first = letter
        self._file.write(msgspec.json.encode(letter) + b"\n")
        self.count += 1

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
