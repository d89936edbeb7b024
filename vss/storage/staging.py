"""Folders that a fold, a seal or a publication works in: each belongs to a live process, and orphans are found.

The owner holds an advisory lock on the folder itself, which the kernel frees however the process ends; so ownership
is known across containers too, where process ids say nothing. Other staging (imports keep theirs) is not touched.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PURPOSES = ("fold", "seal", "publish")


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
