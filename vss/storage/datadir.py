"""The data directory: where its parts lie, and the locks of its one writer and its one worker.

<data>/catalog.db                       names -> collection ids
<data>/catalog.json                     a copy of it
<data>/writer.lock                      held by the one process that commits
<data>/worker.lock                      held by the one process that folds by itself
<data>/vss.sock                         where that process listens, when it is a server
<data>/run/<random>/                    what the processes of a server share while they run
<data>/collections/<id>/log.db          operations, and the pointer to the current generation
                        log.seq         how far it has come
                        manifests/000007.json
                        artifacts/<sha256>
                        staging/        what a job is building
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from vss.errors import Code, VssError
from vss.storage.artifacts import make_folder
from vss.storage.staging import held_seq

REMOTE_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.s3fs"}
)
"""SQLite's locks are not reliable on these (https://sqlite.org/faq.html#q5)."""


class DataDir:
    """The paths of one data directory. Creates it when it is not there.

    Raises VssError (STORAGE) when it cannot be created or lies on a remote file system.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            make_folder(self.path / "collections")
        except OSError as error:
            raise VssError(
                Code.STORAGE,
                f"cannot create the data directory: {error.strerror}",
                hint="choose another with --data",
            ) from error
        kind = file_system(self.path)
        if kind in REMOTE_FILE_SYSTEMS:
            raise VssError(
                Code.STORAGE,
                f"the data directory lies on {kind}, wanted a local file system",
                hint="choose another with --data",
            )
        self.catalog = self.path / "catalog.db"
        self.catalog_copy = self.path / "catalog.json"
        self.lock = self.path / "writer.lock"
        self.worker_lock = self.path / "worker.lock"
        self.socket = self.path / "vss.sock"
        self.run = self.path / "run"

    def collection(self, collection_id: str) -> Path:
        """The folder of one collection, by its random id (never by its name)."""
        return self.path / "collections" / collection_id

    def held_seq(self, collection_id: str) -> int | None:
        """The operations of a collection after this one are needed by a job; None: by none."""
        return held_seq(collection_id, self.collection(collection_id) / "staging", self.path / "staging")


def file_system(path: Path) -> str:
    """The type of the file system that holds the path ("ext4"), or "" where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in mounts:
        fields = line.split()
        point = fields[1].replace("\\040", " ")
        if (path == Path(point) or Path(point) in path.parents) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


class FileLock:
    """An advisory lock on a file that the kernel frees when its process ends, however it ends.

    what: what its holder is, for people
    wait: seconds to try for
    Raises VssError (LOCKED) when another process holds it for longer.
    """

    def __init__(self, path: Path, what: str, *, wait: float) -> None:
        self._file = open(path, "a+", errors="replace")  # noqa: SIM115 - held until close
        until = time.monotonic() + wait
        while not self._take():
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise VssError(
                Code.LOCKED,
                f"another process (pid {holder}) is {what} of this data directory",
                hint="stop it, or leave the work to it",
            )
        self._file.truncate(0)
        with suppress(OSError):  # it is for people: a full disk keeps nobody from serving what is there
            os.pwrite(self._file.fileno(), str(os.getpid()).encode(), 0)

    def _take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WriterLock(FileLock):
    """`writer.lock`: a job holds it only for the moment of its commit, a server while it runs. VssError (LOCKED)."""

    def __init__(self, data: DataDir, *, wait: float = 0.0) -> None:
        super().__init__(data.lock, "the writer", wait=wait)


class WorkerLock(FileLock):
    """`worker.lock`: held by the one process that folds by itself. VssError (LOCKED)."""

    def __init__(self, data: DataDir, *, wait: float = 0.0) -> None:
        super().__init__(data.worker_lock, "the worker", wait=wait)
