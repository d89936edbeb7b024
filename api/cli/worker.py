"""`vss worker`: the process that folds by itself, beside a server or alone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from api import lifeline
from api.cli import registry
from api.cli.options import DEFAULT_DATA, Data, Keep, MinRecall
from vss.cores import usable_cores
from vss.defaults import BUILD_SHARE, KEEP, MIN_RECALL
from vss.jobs.remote import JobWriter, serves
from vss.jobs.worker import Worker
from vss.storage.datadir import DataDir

NICE = 10

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
    share: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            envvar="VSS_BUILD_SHARE",
            help="Part of the time that a build works while a server serves; it pauses for the rest.",
        ),
    ] = BUILD_SHARE,
    keep: Keep = KEEP,
    min_recall: MinRecall = MIN_RECALL,
) -> None:
    """Fold collections by itself when they need it, until told to stop.

    It yields to a server: lowest priority but for idle time, one core less, and pauses.

    One worker for each data directory: a second one waits until the first has ended. VSS_LOG=WARNING silences it.

    \b
    Example:
      vss worker --data vss-data
    """
    if "VSS_LOG" not in os.environ:
        log.setLevel(logging.INFO)  # one line for each fold
    _yield_to_others()
    folder = DataDir(data)
    stop = threading.Event()
    job = Worker(
        folder,
        registry.indexers(),
        JobWriter(folder),
        threads=lambda: threads or max(1, usable_cores() - serves(folder)),
        share=lambda: share if serves(folder) else 1.0,
        stop=stop,
        keep=keep,
        min_recall=min_recall,
    )
    failed = _run_until_signal(job, stop)
    if failed is not None:
        raise failed


def _yield_to_others() -> None:
    """Lower the priority: of the processor, and with it of the disk (ionice(1) derives one from the other)."""
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        # Where the kernel groups processes by session (sched(7), autogroup) only the group's own number counts against
        # the server, which has another session. A session of somebody's shell is not ours to change.
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICE))


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
