"""`vss serve --workers N` as a user starts it, on a free port."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

SECONDS = 120.0

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP, each of which would else read all authorities that the system trusts: 40 ms of CPU."""


def wait_until(true: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Ask again and again until it is so."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        select.select([], [], [], 0.02)


def wait_until_ended(pid: int, seconds: float = 10.0) -> None:
    """Wait for the end of a process: its handles are closed then. Who reaps it, an orphan's new parent say, may take
    seconds more, so that it is still listed."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Not select(): a process that runs many tests may have more handles open than that can take.
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        if not ended.poll(seconds * 1000):
            raise AssertionError(f"process {pid} did not end within {seconds} s")
    finally:
        os.close(handle)


class NoConnection(AssertionError):
    """The system gave none to a process: it does not listen yet, say."""


class ServeProcess:
    """A supervisor and its children. `kill` is kill -9 of all, `stop` is SIGTERM.

    until: what it has come to when it is made; None: it is ready
    """

    def __init__(
        self,
        data: Path,
        workers: int = 1,
        *options: str,
        until: Callable[[ServeProcess], bool] | None = None,
        **settings: Any,
    ) -> None:
        self.data = data
        self.workers = workers
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VSS_")}
        environment |= {f"VSS_{name.upper()}": str(value) for name, value in ({"models": "hashing"} | settings).items()}
        command = ["serve", "--data", str(data), "--port", "0", "--workers", str(workers), *options]
        if "--worker" not in options:
            command.append("--no-worker")
        self.log = open(data.parent / f"{data.name}.log", "ab+")  # noqa: SIM115 - closed with the process
        self._begin = self.log.tell()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", *command],
            env=environment | {"PYTHONWARNINGS": "error,ignore::ResourceWarning"},
            stdout=self.log,
            stderr=self.log,
        )
        self._known: set[psutil.Process] = set()
        try:
            wait_until(lambda: self._ready() if until is None else until(self), "started")
        except BaseException as error:
            error.add_note(self.said()[-2_000:])
            self.kill()
            raise

    def said(self) -> str:
        """What all have logged."""
        with open(self.log.name, "rb") as log:
            log.seek(self._begin)
            return log.read().decode()

    @property
    def url(self) -> str:
        """Where it listens, by its log."""
        found = re.search(r"listening on (http://127[0-9.]+:\d+)", self.said())
        assert found, self.said()
        return found[1]

    @property
    def port(self) -> int:
        """The port of `url`."""
        return int(self.url.rpartition(":")[2])

    def of_role(self, role: str) -> list[psutil.Process]:
        """The processes of a role, oldest first; those that are being started may be missing."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if child.environ().get("VSS_ROLE") == role:
                    found.append(child)
        self._known.update(found)
        return sorted(found, key=lambda one: one.create_time())

    @property
    def writer(self) -> psutil.Process:
        """The writer."""
        (found,) = self.of_role("writer")
        return found

    @property
    def readers(self) -> list[psutil.Process]:
        """The readers."""
        return self.of_role("reader")

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"it did not start:\n{self.said()}")
        return self.said().count("listening on") >= self.workers and self.all_ready()

    def all_ready(self) -> bool:
        """Whether every process of HTTP says that it is."""
        processes = [*self.of_role("writer"), *self.readers]
        if len(processes) != self.workers:
            return False
        try:
            for one in processes:
                with self.client_of(one) as client:
                    if client.get("/readyz").status_code != 200:
                        return False
        except (httpx.TransportError, psutil.Error, NoConnection):
            return False
        return True

    def client(self, **options: Any) -> httpx.Client:
        """A client; the system chooses which process answers each of its connections."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, verify=NO_TLS, **options)

    @contextlib.contextmanager
    def client_of(self, process: psutil.Process) -> Iterator[httpx.Client]:
        """A client whose one connection is to this process."""
        others = []
        try:
            for _ in range(200):
                client = self.client(limits=httpx.Limits(max_connections=1))
                others.append(client)
                with client.stream("GET", "/livez") as answer:
                    stream = answer.extensions["network_stream"]
                    mine = stream.get_extra_info("client_addr")[1]
                    peers = {one.raddr.port for one in process.net_connections("inet") if one.raddr}
                    answer.read()
                if mine in peers:
                    break
            else:
                raise NoConnection("no connection came to that process")
            yield client
        finally:
            for one in others:
                one.close()

    def kill(self) -> None:
        """End all of it as a power cut would."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._known.update(psutil.Process(self.process.pid).children())
        self.process.kill()
        self.process.wait()
        for one in self._known:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for one in self._known:
            wait_until_ended(one.pid)
        self.log.close()

    def stop(self) -> int:
        """End it as Kubernetes does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        finally:
            self.kill()
