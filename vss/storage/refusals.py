"""The last build of a collection that was refused, in `refused.json`: all can tell, and nobody repeats it at once.

It is advice: a lost or unreadable file costs one more build.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec

from vss.schema import IndexSettings

FILE = "refused.json"

FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 6 * 3600.0
"""How long other segments rest after a refused build: doubled each time, up to this."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The last build that was refused, with none published since.

    what:       why, for people
    at:         when, in seconds since 1970
    builds:     refused one after the other
    segments:   that were merged, by id
    index, min_recall: what was asked for
    """

    what: str
    at: float
    builds: int
    segments: frozenset[str]
    index: IndexSettings
    min_recall: float

    def bars(self, segments: frozenset[str], index: IndexSettings, min_recall: float, now: float) -> bool:
        """Whether the same build is not worth trying, or any before the pause is over. now: seconds since 1970."""
        if (index, min_recall) != (self.index, self.min_recall):
            return False
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self.builds - 1, 30))
        return segments == self.segments or self.at <= now < self.at + pause


class Refusals:
    """The refusal of one collection. Whoever builds writes it; anyone reads it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def read(self) -> Refusal | None:
        """The last one, or None."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Refusal)
        except (OSError, ValueError):
            return None

    def note(self, refusal: Refusal) -> None:
        """Keep it. Where the disk does not take it nothing happens."""
        draft = self._path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        try:
            draft.write_bytes(msgspec.json.encode(refusal))
            os.replace(draft, self._path)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def clear(self) -> None:
        """A build was published."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
