"""Which artifacts of a collection were found damaged, in `damaged.json`: what one process finds, all of them heed.

An entry names the file as it was found (inode, size, mtime). As long as it is that file nobody opens it; it is never
deleted for it. Another file in its place is verified like any other, and the entry goes.
"""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

Stamp = tuple[int, int, int]
"""Inode, size, mtime in nanoseconds."""

NOT_THERE: Stamp = (0, 0, 0)
"""Of a file that is missing."""


class Finding(msgspec.Struct, frozen=True):
    """One damaged file. `what` is for people, `found` is when."""

    stamp: Stamp
    what: str
    found: str


# Made here, where one thread imports: two threads that decode a struct for the first time at once crash msgspec 0.22.
_decode_findings = msgspec.json.Decoder(dict[str, Finding]).decode


class DamageList:
    """The findings of one collection. Safe from any thread and process: a lost entry is found again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: Stamp = NOT_THERE
        self._findings: dict[str, Finding] = {}

    def stamp(self) -> Stamp:
        """Changes whenever the list does."""
        return stamp_of(self._path)

    def findings(self) -> dict[str, Finding]:
        """sha256 -> what was found."""
        with self._lock:
            now = self.stamp()
            if now != self._seen:
                self._findings, self._seen = self._read(), now
            return self._findings

    def note(self, name: str, stamp: Stamp, what: str) -> None:
        """Add a finding. Where the disk does not take it, this process knows it all the same."""
        known = self.findings().get(name)
        if known is None or known.stamp != stamp:
            self._write(self.findings() | {name: Finding(stamp, what, datetime.now(UTC).isoformat(timespec="seconds"))})

    def forget(self, name: str) -> None:
        """The file is sound now."""
        if name in self.findings():
            self._write({other: one for other, one in self.findings().items() if other != name})

    def _write(self, findings: dict[str, Finding]) -> None:
        with self._lock:
            self._findings = findings
            draft = self._path.with_suffix(f".{secrets.token_hex(4)}.tmp")
            try:
                draft.write_bytes(msgspec.json.encode(findings))
                os.replace(draft, self._path)
                self._seen = self.stamp()
            except OSError:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)

    def _read(self) -> dict[str, Finding]:
        try:
            return _decode_findings(self._path.read_bytes())
        except (OSError, ValueError):
            return {}


def stamp_of(path: Path) -> Stamp:
    """Which file lies there now; `NOT_THERE` for none."""
    try:
        stat = path.stat()
    except OSError:
        return NOT_THERE
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
