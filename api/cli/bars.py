"""Progress for people: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vss.jobs.progress import Lines, Reporter


class Bars:
    """One bar for each phase; a `vss.jobs.progress.Reporter`."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counted]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._task: TaskID | None = None
        self._unit = ""

    def phase(self, name: str, total: int, unit: str) -> None:
        """As `Reporter.phase`."""
        self._finish()
        self._progress.start()
        self._unit = unit
        self._task = self._progress.add_task(name, total=max(1, total), counted="")

    def update(self, position: int, items: int) -> None:
        """As `Reporter.update`."""
        if self._task is None:
            return
        spent = self._progress.tasks[-1].elapsed or 0.0
        rate = f", {items / spent:,.0f}/s" if spent else ""
        counted = f"{items:,} {self._unit}{rate}" if self._unit else ""
        self._progress.update(self._task, completed=position, counted=counted)

    def close(self) -> None:
        """As `Reporter.close`."""
        self._progress.stop()
        self._task = None

    def _finish(self) -> None:
        # A job names its next phase only when the one before is done.
        if self._task is not None:
            self._progress.update(self._task, completed=self._progress.tasks[-1].total or 1)


def reporter(console: Console) -> Reporter:
    """Bars when the console is a terminal, else lines."""
    if console.is_terminal:
        return Bars(console)
    return Lines(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
