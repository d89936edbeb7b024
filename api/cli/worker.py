"""`vss worker`: the process that folds by itself, beside a server or alone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from api import lifeline
from api.cli import registry
from api.cli.options import DEFAULT_DATA, Data, Keep
from vss.cores import usable_cores
from vss.jobs.remote import JobWriter, serves
from vss.jobs.worker import Worker
from vss.storage.datadir import DataDir
from vss.storage.history import KEEP

STOP_SECONDS = 2.0
"""How long a build that is told to stop may take to clean up."""

WAKE_SECONDS = 0.5
"""A signal may wake another thread than the one that handles it; that one looks this often."""

log = logging.getLogger("vss.worker")


def worker(
    data: Data = DEFAULT_DATA,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of a build.  [default: all cores, one less while a server serves]"),
    ] = None,
    keep: Keep = KEEP,
) -> None:
    """Fold collections by itself when they need it, until told to stop.

    One worker for each data directory: a second one waits until the first has ended. VSS_LOG=WARNING silences it.

    \b
    Example:
      vss worker --data vss-data
    """
    if "VSS_LOG" not in os.environ:
        log.setLevel(logging.INFO)  # one line for each fold
    os.nice(10)
    folder = DataDir(data)
    stop = threading.Event()
    job = Worker(
        folder,
        registry.indexers(),
        JobWriter(folder),
        threads=lambda: threads or max(1, usable_cores() - serves(folder)),
        stop=stop,
        keep=keep,
    )
    failed = _run_until_signal(job, stop)
    if failed is not None:
        raise failed


def _run_until_signal(job: Worker, stop: threading.Event) -> BaseException | None:
    """Work in another thread: this one handles signals, which native code of a build would hold up."""
    failed: list[BaseException] = []
    told: list[int] = []

    def run() -> None:
        try:
            job.run()
        except BaseException as error:
            failed.append(error)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    lifeline.watch()
    thread = threading.Thread(target=run, name="vss-worker", daemon=True)
    thread.start()
    while thread.is_alive() and not told:
        thread.join(WAKE_SECONDS)
    stop.set()
    thread.join(STOP_SECONDS)
    if thread.is_alive():
        # Native code cannot be interrupted. Publishing is atomic, and the next worker removes what was staged.
        log.info("ended in the middle of a fold; nothing of it was published")
        logging.shutdown()
        sys.stderr.flush()
        os._exit(0)
    return failed[0] if failed else None
