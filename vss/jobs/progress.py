"""How a job tells what it is doing: phases, each with its rate and the time that it still needs.

    Reporter        what a job calls
    Silent          tells nothing
    Lines           a plain line now and then; for logs and pipes

The command line has bars for a terminal (`api.cli.bars`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Reporter(Protocol):
    """Called by a job, from one thread."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """The phase before is done; this one begins. total: what `position` runs up to; unit: what is counted."""

    def update(self, position: int, items: int) -> None:
        """Where the phase is now, and how many units it has done."""

    def close(self) -> None:
        """The last phase is done, or the job failed."""


class Silent:
    """The reporter of a caller that shows nothing."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Tell nothing."""

    def update(self, position: int, items: int) -> None:
        """Tell nothing."""

    def close(self) -> None:
        """Tell nothing."""


class Lines:
    """A line every few seconds and one at the end of each phase.

    write: takes one line, without its newline
    """

    def __init__(
        self, write: Callable[[str], None], *, every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._every = every
        self._clock = clock
        self._name = ""
        self._unit = ""
        self._total = self._items = 0
        self._began = self._said = 0.0

    def phase(self, name: str, total: int, unit: str) -> None:
        """As `Reporter.phase`."""
        self.close()
        self._name, self._total, self._unit, self._items = name, total, unit, 0
        self._began = self._said = self._clock()

    def update(self, position: int, items: int) -> None:
        """As `Reporter.update`."""
        self._items = items
        now = self._clock()
        if now - self._said >= self._every and 0 < position < self._total:
            self._said = now
            spent = now - self._began
            left = remaining(spent, position, self._total)
            self._write(
                f"{self._name}: {position / self._total:.0%}, {items:,} {self._unit}, "
                f"{items / spent:,.0f} {self._unit}/s, {left:.0f} s left"
            )

    def close(self) -> None:
        """As `Reporter.close`."""
        if self._name:
            spent = self._clock() - self._began
            counted = f" {self._items:,} {self._unit}" if self._items else ""
            self._write(f"{self._name}:{counted} in {spent:.1f} s")
            self._name = ""


def remaining(spent: float, position: int, total: int) -> float:
    """Seconds that the rest takes when it goes on as before."""
    return spent * (total - position) / position if position else 0.0
