"""Folders that a fold, a seal or a publication works in: each belongs to a live process, and orphans are found.

What lies in any of them is in use: an artifact that has a second name there is not collected (`in_use`). A job that
will ask the log which keys were written since it began says so there too, and the log keeps those (`hold_log`).

The owner holds an advisory lock on the folder itself, which the kernel frees however the process ends; so ownership
is known across containers too, where process ids say nothing. Other staging (imports keep theirs) is not touched.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

PURPOSES = ("fold", "seal", "publish", "adopt", "collect", "columns")


@contextmanager
def staging_folder(staging: Path, purpose: str) -> Iterator[Path]:
    """A new folder of this process below `staging`, removed at the end. purpose: one of `PURPOSES`."""
    staging.mkdir(exist_ok=True)
    folder, handle = _make(staging, purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _make(staging: Path, purpose: str) -> tuple[Path, int]:
    while True:
        folder = staging / f"{purpose}-{secrets.token_hex(8)}"
        folder.mkdir()
        handle = lock_folder(folder)
        # Between the two steps it looked like an orphan; then somebody may have removed it.
        if handle is not None and folder.exists():
            return folder, handle
        if handle is not None:
            os.close(handle)


def remove_orphans(staging: Path) -> int:
    """Remove the folders that no live process owns; returns how many there were."""
    found = 0
    for purpose in PURPOSES:
        for folder in staging.glob(f"{purpose}-*"):
            handle = lock_folder(folder)
            if handle is None:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)
            found += 1
    return found


def in_use(*stagings: Path) -> set[int]:
    """The inodes of all files in staging folders."""
    found = set()
    for staging in stagings:
        for folder, _, files in os.walk(staging):
            for name in files:
                with suppress(FileNotFoundError):
                    found.add(os.stat(os.path.join(folder, name), follow_symlinks=False).st_ino)
    return found


def live_folders(staging: Path) -> list[Path]:
    """The folders that a live process owns."""
    found = []
    for folder in sorted(staging.glob("*-*")):
        handle = lock_folder(folder)
        if handle is not None:
            os.close(handle)
        elif folder.is_dir():
            found.append(folder)
    return found


HOLD = "log.held"
"""Name of the file in a job's folder that says which operations it needs."""


class Hold(msgspec.Struct, frozen=True):
    """A job that began after operation `seq` of a collection, by its id."""

    collection: str
    seq: int


# Made here, where one thread imports: two threads that decode a struct for the first time at once crash msgspec 0.22.
_decode_hold = msgspec.json.Decoder(Hold).decode


def hold_log(folder: Path, collection: str, seq: int) -> None:
    """Keep the operations after `seq` in a collection's log as long as the folder stays. For a job that may go on
    after its process was killed that is until somebody removes the folder."""
    (folder / HOLD).write_bytes(msgspec.json.encode(Hold(collection, seq)))


def held_seq(collection: str, *stagings: Path) -> int | None:
    """The operations of a collection after this one are needed by a job; None: by none."""
    held = []
    for staging in stagings:
        for path in staging.glob(f"*/{HOLD}"):
            with suppress(OSError, msgspec.MsgspecError):
                hold = _decode_hold(path.read_bytes())
                if hold.collection == collection:
                    held.append(hold.seq)
    return min(held, default=None)


def lock_folder(folder: Path) -> int | None:
    """An open handle that holds the folder's lock; None when another has it, or the folder is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
