"""`vss serve`: starts the processes of one server, starts again what dies, and stops them in order.

    supervisor --+-- writer      HTTP on the port and on the Unix socket; commits; holds the models
                 +-- reader-1..  HTTP on the same port; queries (`--workers N` starts N-1 of them)
                 +-- worker      `vss worker`: jobs

The children are spawned, each in a session of its own, so that Ctrl-C comes here alone. They share the port by
SO_REUSEPORT: each has a queue of its own, and the share of one that died goes to the others. The others start once the
writer holds the data.

SIGTERM: all turn unready; the readers finish and end, then the writer, whom they need. SIGINT: the same without waiting
for clients to turn away. A second signal ends everything at once. Children are told by SIGUSR1 and SIGTERM alone, which
end one that is starting without a word: SIGINT would have it print where it was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import Sequence
from dataclasses import dataclass, field

from api import lifeline, run_folder
from api.listeners import reserve_port
from api.logs import start_logging, tell
from api.run_folder import RunFolder
from api.settings import Settings, read_settings
from vss.cores import usable_cores
from vss.errors import VssError
from vss.storage.datadir import DataDir

CANNOT_START = 78
"""How a child ends for a reason that will not go away by itself; it has said which."""

READERS_SECONDS = 8.7
ALL_SECONDS = 9.7
"""Seconds after the first signal when readers, and all that still run, are killed."""

STEADY_SECONDS = 10.0
"""A child that has lived this long did not die of its start, and is started again without a pause."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0

log = logging.getLogger("vss.supervisor")


@dataclass(slots=True, eq=False)
class Child:
    """One process and its successors. `role` is writer, reader or worker."""

    role: str
    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    process: Process | None = None

    def signal(self, number: int) -> None:
        """Send it a signal, when it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


class Supervisor:
    """The processes of one server.

    port:   where they listen; somebody has to hold it
    folder: for what they share
    """

    def __init__(self, settings: Settings, port: int, folder: RunFolder, *, worker: bool) -> None:
        self._data = DataDir(settings.data)
        self._folder = folder
        self._environment = os.environ | {"VSS_PORT": str(port), run_folder.VARIABLE: str(folder.path)}
        if settings.workers > 1:
            self._environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder.path)
        server = ("-m", "api.server")
        self._writer = Child("writer", "writer", server, _blas(1) | {"VSS_ROLE": "writer"})
        self._readers = [
            Child("reader", f"reader-{number}", server, _blas(1) | {"VSS_ROLE": "reader"})
            for number in range(1, settings.workers)
        ]
        jobs = ("-m", "api.cli", "worker", "--data", str(self._data.path))
        self._workers = [Child("worker", "worker", jobs, _blas(max(1, usable_cores() - 1)))] if worker else []
        self._keeping: dict[Child, asyncio.Task[None]] = {}
        self._ending = asyncio.Event()
        self._signal = signal.SIGINT
        self._code = 0
        self._line, self._held = os.pipe()

    async def run(self) -> int:
        """Until a signal comes or a child cannot start; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told, number)
        self._folder.note(os.getpid(), "supervisor", "supervisor")
        self._keep(self._writer)
        await self._until_writing()
        if not self._ending.is_set():
            for child in (*self._readers, *self._workers):
                self._keep(child)
        await self._ending.wait()
        await self._end()
        return self._code

    def _told(self, number: signal.Signals) -> None:
        if self._ending.is_set():
            log.warning("a second signal: everything ends at once")
            self._code = 128 + number
            for child in self._keeping:
                child.signal(signal.SIGKILL)
        self._signal = number
        self._ending.set()

    async def _until_writing(self) -> None:
        """Wait for the writer to hold the data, so that nobody serves the data of another server."""
        while not self._ending.is_set():
            process = self._writer.process
            if process is not None and self._folder.writes(process.pid):
                return
            await asyncio.sleep(0.02)

    def _keep(self, child: Child) -> None:
        self._keeping[child] = asyncio.create_task(self._live(child))

    async def _live(self, child: Child) -> None:
        """Start a child, and again when it has died, until everything ends."""
        pause, first = FIRST_PAUSE, True
        while not self._ending.is_set():
            began = time.monotonic()
            code = await self._once(child)
            if self._ending.is_set():
                return
            if code == CANNOT_START and first:
                self._code = 1
                self._ending.set()
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pause, first = FIRST_PAUSE, False
            log.error("the %s ended (%s); it is started again in %.1f s", child.name, _cause(code), pause)
            try:
                await asyncio.wait_for(self._ending.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(self, child: Child) -> int:
        """One life of a child; its exit code."""
        child.process = await create_subprocess_exec(
            sys.executable,
            *_isolation(),
            *child.arguments,
            env=self._environment | child.environment | {lifeline.VARIABLE: str(self._line)},
            pass_fds=(self._line,),
            start_new_session=True,
        )
        pid = child.process.pid
        self._folder.note(pid, child.role, child.name)
        if self._ending.is_set():  # it was told while this one was being made
            child.signal(signal.SIGTERM)
        code = await child.process.wait()
        self._folder.forget(pid)
        return code

    async def _end(self) -> None:
        began = time.monotonic()
        for child in self._workers:
            child.signal(signal.SIGTERM)
        if self._readers:
            self._writer.signal(signal.SIGUSR1)
            for child in self._readers:
                self._stop(child)
            await self._gone(self._readers, began + READERS_SECONDS)
        self._stop(self._writer)
        await self._gone(list(self._keeping), began + ALL_SECONDS)

    def _stop(self, child: Child) -> None:
        if self._signal is signal.SIGINT:
            child.signal(signal.SIGUSR1)
        child.signal(signal.SIGTERM)

    async def _gone(self, children: Sequence[Child], until: float) -> None:
        tasks = [self._keeping[child] for child in children if child in self._keeping]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for child in children:
            if self._keeping.get(child) in late:
                log.error("the %s did not end in time and is killed", child.name)
                child.signal(signal.SIGKILL)
        if late:
            await asyncio.wait(late)


def _blas(threads: int) -> dict[str, str]:
    """Threads of numpy's OpenBLAS, which reads them when it is loaded, and else takes every core for each exact search.

    Measured on two busy cores, one query over 4,000 live points: 2.9 ms of CPU with two threads, .7 ms with one.
    """
    return {"OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", str(threads))}


def _isolation() -> tuple[str, ...]:
    """Children find this program as this process has found it: not in the working directory, unless it lies there."""
    return () if os.getcwd() in sys.path else ("-P",)


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def supervise(settings: Settings, *, worker: bool) -> int:
    """Serve until a signal comes; the exit code. VssError: UNAVAILABLE (the port), STORAGE."""
    held = reserve_port(settings.host, settings.port)
    try:
        folder = RunFolder(DataDir(settings.data), settings.workers)
        try:
            return asyncio.run(Supervisor(settings, held.getsockname()[1], folder, worker=worker).run())
        finally:
            folder.close()
    finally:
        held.close()


def main() -> int:
    """Supervise by the settings of the environment; the exit code. The argument `--no-worker` leaves the worker out."""
    start_logging()
    try:
        return supervise(read_settings(), worker="--no-worker" not in sys.argv[1:])
    except VssError as error:
        tell(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
