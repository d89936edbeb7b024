"""A server in a process of its own, on a free port."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.api.serve_process import NO_TLS

START_SECONDS = 120.0


class ServerProcess:
    """`python -m api.server` over a data directory. `kill` is kill -9, `stop` is SIGTERM.

    spawn: starts it instead, from its environment and the file that it says something in
    """

    def __init__(self, data: Path, spawn: Callable[[dict[str, str], Path], Any] | None = None, **settings: Any) -> None:
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        given = {"data": data, "port": self.port, "models": '["hashing"]', "drain_seconds": 0} | settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VSS_")}
        environment |= {f"VSS_{name.upper()}": str(value) for name, value in given.items()}
        self.log = open(data.parent / f"{data.name}.log", "ab+")  # noqa: SIM115 - closed with the process
        self._begin = self.log.tell()
        self.process = spawn(environment, Path(self.log.name)) if spawn else self._spawned(environment)
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _spawned(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "api.server"], env=environment, stdout=self.log, stderr=self.log
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    if client.get("/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start ({self.process.poll()}):\n{self.said()}")
                # Nothing to wait on: the port is not bound yet.
                select.select([], [], [], 0.02)

    def client(self, **options: Any) -> httpx.Client:
        """A client of the TCP port."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, verify=NO_TLS, **options)

    def unix_client(self) -> httpx.Client:
        """A client of the Unix socket."""
        transport = httpx.HTTPTransport(uds=str(self.data / "vss.sock"), verify=NO_TLS)
        return httpx.Client(base_url="http://vss", transport=transport, timeout=30)

    def said(self) -> str:
        """What it has logged."""
        with open(self.log.name, "rb") as log:
            log.seek(self._begin)
            return log.read().decode()

    def kill(self) -> None:
        """End it as a power cut of the process would."""
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """End it as Kubernetes does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.log.close()
