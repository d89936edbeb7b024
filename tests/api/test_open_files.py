"""Servers and commands may open as many files as the system allows."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import psutil

from tests.api.server_process import ServerProcess

FEW = 256
MOST = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
BEGINS_WITH_FEW = f"import os, resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, {MOST}))\n"


def test_a_server_raises_its_limit(tmp_path: Path) -> None:
    def spawn(environment: dict[str, str], said: Path) -> subprocess.Popen[bytes]:
        run = f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'api.server'])"
        with open(said, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", BEGINS_WITH_FEW + run], env=environment, stdout=log, stderr=log
            )

    server = ServerProcess(tmp_path / "data", spawn)
    try:
        assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (MOST, MOST)
    finally:
        server.stop()


def test_a_command_raises_its_limit() -> None:
    show = "from api.cli.main import app\ntry: app()\nfinally: print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    done = subprocess.run(
        [sys.executable, "-c", BEGINS_WITH_FEW + show, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith(f"({MOST}, {MOST})\n")
