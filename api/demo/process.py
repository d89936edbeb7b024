"""Step 2: the job and the server, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import httpx

from vss.errors import Code, VssError

READY_SECONDS = 120.0
STOP_SECONDS = 20.0
DEFAULT_PORT = 6333
_VSS = (sys.executable, "-m", "api.cli")


def run(*arguments: str) -> None:
    """Run a `vss` command to its end; it shows its own progress. VssError (UNAVAILABLE) when it fails."""
    code = subprocess.run([*_VSS, *arguments], check=False).returncode
    if code:
        raise VssError(Code.UNAVAILABLE, f"vss {arguments[0]} failed with exit code {code}")


def choose_port(wanted: int = DEFAULT_PORT) -> int:
    """That port (by default the one that `vss serve` takes by itself) when nobody has it, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise VssError(Code.UNAVAILABLE, "there is no free port")


class Server:
    """`vss serve` from its start to its end; used in a `with` statement, whose body finds it ready.

    settings: as environment variables; options: of the command
    Raises VssError (UNAVAILABLE) with the last lines of its log when it does not become ready.
    """

    def __init__(self, data: Path, port: int, settings: Mapping[str, str], *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seconds = 0.0
        self._log = data / "serve.log"
        self._arguments = [*_VSS, "serve", "--data", str(data), "--port", str(port), *options]
        self._environment = os.environ | settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        began = time.monotonic()
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._arguments, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            with httpx.Client(trust_env=False, timeout=5.0) as client:
                while not self._ready(client):
                    if self._process.poll() is not None or time.monotonic() - began > READY_SECONDS:
                        raise self._failed()
                    time.sleep(0.1)
        except BaseException:
            self._stop()
            raise
        self.seconds = time.monotonic() - began
        return self

    @property
    def pid(self) -> int:
        """Of the process that was started, while it runs."""
        assert self._process is not None
        return self._process.pid

    def _ready(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _failed(self) -> VssError:
        last = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        return VssError(
            Code.UNAVAILABLE, f"the server did not become ready: {' / '.join(last)}", hint=f"see {self._log}"
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if kind is None and self._process is not None and self._process.returncode:
            code = self._process.returncode
            raise VssError(Code.UNAVAILABLE, f"the server ended with exit code {code}", hint=f"see {self._log}")
