"""What lets an import that was killed or told to stop go on: a journal beside the rows that it has staged.

    <staging>/import-<random>/journal    one JSON line that says which import it is, then one for each finished chunk
                              segment/   what `SegmentBuilder` has written

The owner holds a lock on the folder, which the kernel frees however the process ends. A line is written when the
rows that it counts are with the operating system, so it holds after a kill. Every few seconds all is forced to the disk
and the line says so; after a power cut (another boot) only such lines count. A torn last line is no line.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from vss.storage.artifacts import fsync_folder
from vss.storage.staging import HOLD, lock_folder

SYNC_SECONDS = 5.0
"""Work that a power cut may take; a kill takes only the unfinished chunk."""

MAX_AGE_SECONDS = 7 * 24 * 3600.0
"""A killed import that nobody ran again for so long is given up."""


class Begin(msgspec.Struct, frozen=True):
    """Which import it is.

    identity:     everything that decides which rows are staged; as JSON values
    started_seq, created: as `Site`
    dead_letters: the file of refused rows
    """

    identity: dict[str, Any]
    started_seq: int
    created: bool
    dead_letters: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Where it is.

    read:     rows of the source that are done
    staged:   what `SegmentBuilder.checkpoint` returned
    refused:  rows among the dead letters, and `letter_bytes` the bytes of their file
    boot:     of which start of the machine this line is; `synced` says that it holds after another one too
    """

    read: int
    staged: dict[str, int]
    refused: int
    letter_bytes: int
    boot: str = ""
    synced: bool = False


class Journal:
    """The journal of one import, and the lock on its folder. `last` is where it is; None at its start."""

    def __init__(self, folder: Path, lock: int, begin: Begin, last: Checkpoint | None, file: BinaryIO) -> None:
        self.folder = folder
        self.begin = begin
        self.last = last
        self._lock = lock
        self._file = file
        self._boot = _boot()
        self._synced_at = time.monotonic()

    @property
    def segment(self) -> Path:
        """The folder of the `SegmentBuilder`."""
        return self.folder / "segment"

    def due(self) -> bool:
        """Whether it is time to force what is staged to the disk, before the next `write`."""
        return time.monotonic() - self._synced_at >= SYNC_SECONDS

    def write(self, checkpoint: Checkpoint, *, synced: bool) -> None:
        """A chunk is finished. synced: whether what it counts was forced to the disk."""
        self.last = msgspec.structs.replace(checkpoint, boot=self._boot, synced=synced)
        self._file.write(msgspec.json.encode(self.last) + b"\n")
        self._file.flush()
        if synced:
            os.fsync(self._file.fileno())
            fsync_folder(self.folder)
            fsync_folder(self.folder.parent)
            self._synced_at = time.monotonic()

    def leave(self) -> None:
        """The import was told to stop: the next one takes it from here."""
        self._file.close()
        os.close(self._lock)

    def remove(self) -> None:
        """The import has ended: nothing of it stays."""
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


@dataclass(frozen=True, slots=True)
class Killed:
    """What an import whose process has ended has left.

    given_up: no run will go on from it
    created:  whether it had made its collection
    """

    folder: Path
    given_up: bool
    created: bool

    def remove(self) -> None:
        """Remove it, unless an import has taken it meanwhile."""
        with _alone(self.folder.parent):
            lock = lock_folder(self.folder)
            if lock is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
                os.close(lock)


def killed_imports(staging: Path) -> list[Killed]:
    """The imports into a collection that were killed and not run again."""
    found = []
    if not staging.is_dir():
        return []
    with _alone(staging):
        for folder in sorted(staging.glob("import-*")):
            lock = lock_folder(folder)
            if lock is None:
                continue
            known = _read(folder)
            nothing = known is None or known[1] is None
            old = nothing or time.time() - (folder / "journal").stat().st_mtime > MAX_AGE_SECONDS
            found.append(Killed(folder, old, known is not None and known[0].created))
            os.close(lock)
    return found


def take(fresh: Path, begin: Begin) -> tuple[Journal, str | None]:
    """The journal of the killed import that this one goes on with, else a new one in the folder `fresh`.

    Folders beside `fresh` belong to imports into the same collection. Those of live processes are left alone; so are
    killed imports of other sources, until they are too old. Also returns why a killed import of this source was given
    up, if one was.
    """
    fresh.parent.mkdir(parents=True, exist_ok=True)
    found: Journal | None = None
    reason: str | None = None
    with _alone(fresh.parent):
        for folder in sorted(fresh.parent.glob("import-*")):
            lock = lock_folder(folder)
            if lock is None:
                continue
            known = _read(folder)
            old = known is not None and time.time() - (folder / "journal").stat().st_mtime > MAX_AGE_SECONDS
            if known is not None and not old and known[0].identity.get("uri") != begin.identity.get("uri"):
                os.close(lock)
                continue
            if old:
                reason = "it is too old"
            elif known is not None and known[0].identity != begin.identity:
                reason = _difference(known[0].identity, begin.identity)
            elif known is not None and found is None:
                found = _go_on(folder, lock, *known)
                continue
            if known is not None and known[0].created:
                begin = msgspec.structs.replace(begin, created=True)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        return (found, None) if found is not None else (_new(fresh, begin), reason)


def _new(folder: Path, begin: Begin) -> Journal:
    folder.mkdir()
    lock = lock_folder(folder)
    assert lock is not None, "the folder is new"
    file = open(folder / "journal", "xb")  # noqa: SIM115 - closed by Journal.remove()
    file.write(msgspec.json.encode(begin) + b"\n")
    file.flush()
    return Journal(folder, lock, begin, None, file)


def _go_on(folder: Path, lock: int, begin: Begin, last: Checkpoint | None, end: int) -> Journal:
    for path in folder.iterdir():
        if path.name not in ("journal", "segment", HOLD) or (path.name == "segment" and last is None):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    file = open(folder / "journal", "r+b")  # noqa: SIM115 - closed by Journal.remove()
    file.truncate(end)
    file.seek(end)
    return Journal(folder, lock, begin, last, file)


def _read(folder: Path) -> tuple[Begin, Checkpoint | None, int] | None:
    """What the journal says, and where its last line that counts ends; None when it says nothing."""
    boot, last, end = _boot(), None, 0
    try:
        with open(folder / "journal", "rb") as file:
            line = file.readline()
            if not line.endswith(b"\n"):
                return None
            begin = msgspec.json.decode(line, type=Begin)
            counts = end = len(line)
            with suppress(msgspec.MsgspecError):
                while (line := file.readline()).endswith(b"\n"):
                    checkpoint = msgspec.json.decode(line, type=Checkpoint)
                    end += len(line)
                    if checkpoint.synced or (boot and checkpoint.boot == boot):
                        last, counts = checkpoint, end
    except (OSError, msgspec.MsgspecError):
        return None
    return begin, last, counts


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [name for name in now if before.get(name) != now[name]] or ["format"]
    return f"{' and '.join(names)} changed"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """Of the processes that look for staged imports, one at a time."""
    handle = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
