"""Where the processes of one server share what they count: `<data>/run/<random>`, made anew at each start; where
temporary files are when the disk of the data is full, so that a server starts all the same.

    <pid>.process         of each living process: its role and name
    <pid>.writing         of the writer, once it holds the data
    counter_<pid>.db ...  of prometheus_client, where several processes count

Its supervisor holds a lock on it, which the kernel frees however that ends: what nobody holds was left by a killed one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from vss.errors import Code, VssError
from vss.storage.datadir import DataDir
from vss.storage.sqlite import FULL_ERRORS, free_bytes

VARIABLE = "VSS_RUN_FOLDER"
"""Names the folder to the processes."""

PROCESS_BYTES = 2 << 20
"""A process needs less room than this (`api.process_metrics.RESERVED`)."""


class RunFolder:
    """The folder of one supervisor. Removes those that others have left in the data directory. VssError (STORAGE).

    processes: how many will share it
    """

    def __init__(self, data: DataDir, processes: int) -> None:
        try:
            try:
                self._make_in(data.run, processes * PROCESS_BYTES)
            except OSError as error:
                if error.errno not in FULL_ERRORS:
                    raise
                self.path = Path(tempfile.mkdtemp(prefix="vss-run-"))
                self._lock = _held(self.path, fcntl.LOCK_EX)
        except OSError as error:
            raise VssError(
                Code.STORAGE,
                f"cannot make a folder in the data directory: {error.strerror}",
                hint="make room, or choose another with --data",
            ) from error

    def _make_in(self, folder: Path, room: int) -> None:
        folder.mkdir(exist_ok=True)
        guard = _held(folder, fcntl.LOCK_EX)
        try:
            for left in folder.iterdir():
                _remove_unheld(left)
            if free_bytes(folder) < room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.path = Path(tempfile.mkdtemp(dir=folder))
            self._lock = _held(self.path, fcntl.LOCK_EX)
        finally:
            os.close(guard)

    def note(self, pid: int, role: str, name: str) -> None:
        """A process has begun. Where the disk does not take it, its CPU and memory are not shown."""
        with suppress(OSError):
            (self.path / f"{pid}.process").write_text(f"{role} {name}")

    def writes(self, pid: int) -> bool:
        """Whether a process has said that it holds the data (`say_writing`)."""
        return (self.path / f"{pid}.writing").exists()

    def forget(self, pid: int) -> None:
        """A process has ended: what it counted stays, what it was doing does not."""
        for pattern in (f"{pid}.process", f"{pid}.writing", f"gauge_live*_{pid}.db"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def say_writing() -> None:
    """Tell the supervisor, when there is one, that this process holds the data."""
    if VARIABLE in os.environ:
        with suppress(OSError):  # a writer that is started again on a full disk serves all the same
            (Path(os.environ[VARIABLE]) / f"{os.getpid()}.writing").touch()


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
