"""Where the processes of one server share what they count: `<data>/run/<random>`, made anew at each start.

    <pid>.process         of each living process: its role and name
    counter_<pid>.db ...  of prometheus_client, where several processes count

Its supervisor holds a lock on it, which the kernel frees however that ends: what nobody holds was left by a killed one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from vss.errors import Code, VssError
from vss.storage.datadir import DataDir

VARIABLE = "VSS_RUN_FOLDER"
"""Names the folder to the processes."""


class RunFolder:
    """The folder of one supervisor. Removes those that others have left. VssError (STORAGE)."""

    def __init__(self, data: DataDir) -> None:
        try:
            data.run.mkdir(exist_ok=True)
            guard = _held(data.run, fcntl.LOCK_EX)
            try:
                for left in data.run.iterdir():
                    _remove_unheld(left)
                self.path = Path(tempfile.mkdtemp(dir=data.run))
                self._lock = _held(self.path, fcntl.LOCK_EX)
            finally:
                os.close(guard)
        except OSError as error:
            raise VssError(
                Code.STORAGE,
                f"cannot make a folder in the data directory: {error.strerror}",
                hint="make room, or choose another with --data",
            ) from error

    def note(self, pid: int, role: str, name: str) -> None:
        """A process has begun."""
        (self.path / f"{pid}.process").write_text(f"{role} {name}")

    def forget(self, pid: int) -> None:
        """A process has ended: what it counted stays, what it was doing does not."""
        for pattern in (f"{pid}.process", f"gauge_live*_{pid}.db"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _held(folder: Path, how: int) -> int:
    """A descriptor that holds the lock of a folder until it is closed. BlockingIOError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_unheld(folder: Path) -> None:
    try:
        lock = _held(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # of another server that tries to start, or gone
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
