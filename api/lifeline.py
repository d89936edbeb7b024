"""The lifeline: a child process ends when its supervisor does, however that ended.

The supervisor holds the writing end of a pipe and never writes; a child inherits the reading end, whose number stands
in `VSS_LIFELINE`. When the supervisor is gone the kernel closes the writing end, and the child reads the end.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "VSS_LIFELINE"

LAST_SECONDS = 15.0
"""What a child gets to stop in order; after that it is killed."""


def watch() -> None:
    """Send this process SIGTERM when its supervisor is gone; does nothing in a process that was given no lifeline."""
    given = os.environ.pop(VARIABLE, None)
    if given is None:
        return
    lifeline = int(given)
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_wait, args=(lifeline,), name="lifeline", daemon=True).start()


def _wait(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
