"""Server processes that are forked from one that has loaded the program, which is most of what a start takes.

python -m tests.proofs.forked
{"log": "/tmp/x.log", "environment": {"VSS_DATA": "/tmp/x"}}  ->  7, its process id
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from api import server
from tests.api.serve_process import wait_until_ended


class Forked:
    """One of them, with as much of the face of `subprocess.Popen` as is used."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """None while it runs."""
        return None if psutil.pid_exists(self.pid) else 1

    def send_signal(self, number: int) -> None:
        """Send it a signal, when it runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait for its end; its exit code is not known."""
        wait_until_ended(self.pid, timeout)
        return 1


class Forks:
    """Where they come from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.proofs.forked"],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # threads do not survive a fork
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, environment: dict[str, str], log: Path) -> Forked:
        """Another one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"log": str(log), "environment": environment}) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        """No more."""
        self._process.communicate(timeout=30)


def main() -> None:
    """Fork until there are no more lines."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in iter(sys.stdin.readline, ""):
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _serve(wanted["log"], wanted["environment"])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _serve(log: str, environment: dict[str, str]) -> None:
    """As `python -m api.server` does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    handle, nothing = os.open(log, os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (handle, 1), (handle, 2)):
        os.dup2(old, new)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        code = server.main()
        logging.shutdown()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
