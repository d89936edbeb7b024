"""The command line of a long run, and the line of JSON that it leaves."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def commit() -> str:
    """What is checked out."""
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return described.stdout.strip() or "unknown"


@dataclass
class Long:
    """A long run, from its command line.

    wanted: how many of what it counts; seed: the first; folder: where it works
    """

    proof: str
    wanted: int
    seed: int
    seconds: float
    folder: Path | None
    out: Path | None
    commit: str = field(default_factory=commit)
    _stopped: bool = False
    _began: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        """Whether its time is, or it was told to stop."""
        return self._stopped or time.monotonic() - self._began > self.seconds

    @contextmanager
    def told(self, done: dict[str, Any]) -> Iterator[None]:
        """Leave a line in the end, also of a run that fails or is told to stop (by SIGTERM, once it can be). done: read
        then."""
        ended = "as wanted"
        signal.signal(signal.SIGTERM, self._stop)
        try:
            yield
            if self._stopped:
                ended = "told to stop"
        except BaseException as error:
            ended = repr(error)[:500]
            raise
        finally:
            line = {
                "proof": self.proof,
                "ended": ended,
                "seed": self.seed,
                "seconds": round(time.monotonic() - self._began, 1),
                **done,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "commit": self.commit,
                "command": " ".join(["python", *sys.orig_argv[1:]]),
            }
            sys.stdout.write(json.dumps(line) + "\n")
            if self.out is not None:
                self.out.parent.mkdir(parents=True, exist_ok=True)
                with open(self.out, "a") as file:
                    file.write(json.dumps(line) + "\n")

    def _stop(self, *_: Any) -> None:
        # Not an exception: hypothesis would look for the shortest history that ends by it.
        self._stopped = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def in_soak(wanted: int) -> int:
    """How many `make soak` runs of what so many are wanted of: a part of them where VSS_SOAK says so, `.01` say."""
    return max(1, round(wanted * float(os.environ.get("VSS_SOAK", "1"))))


def long_run(proof: str, what: str, wanted: int, description: str | None) -> Long:
    """Read the command line. what: the name of the option that says how many are wanted."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument(f"--{what}", dest="wanted", type=int, default=wanted)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=float("inf"), help="end before there are so many")
    options.add_argument("--folder", type=Path, help="where to work; else where it is fast, or temporary files are")
    options.add_argument("--out", type=Path, help="append the line to this file")
    return Long(proof, **vars(options.parse_args()))
