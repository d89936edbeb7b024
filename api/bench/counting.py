"""The progress of a phase, counted."""

from __future__ import annotations

from vss.jobs.progress import Reporter
from vss.types import Progress


def counting(reporter: Reporter) -> Progress:
    """Adds up what it is told, and tells the reporter."""
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        reporter.update(done, done)

    return progress
