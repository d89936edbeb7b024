"""Immutable files, each named by the sha256 of its bytes and shared between generations.

A file enters by `add`: hashed, fsynced, renamed into place, its folder fsynced. It leaves this module by `path`, which
checks it against its name first: once per host and file (a receipt of inode, size and mtime says that it was done),
so that no native parser ever opens bytes that nobody verified.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from pathlib import Path
from typing import Annotated

import msgspec

from vss.errors import Code, VssError

_CHUNK = 1 << 20


class Artifact(msgspec.Struct, frozen=True):
    """One file: the sha256 of its bytes in hex, and how many there are. Nothing else is decoded: names become paths."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]


Receipts = dict[str, tuple[int, int, int]]


class ArtifactStore:
    """The artifacts of one collection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._receipts_file = folder.parent / "verified.json"
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._receipts = self._read_receipts()

    def add(self, source: Path) -> Artifact:
        """Move a finished file into the store (same file system) and make it durable."""
        artifact = self.keep(source)
        source.unlink()
        return artifact

    def keep(self, source: Path) -> Artifact:
        """As `add`, but the source stays too, as a second name of the same bytes: nobody may write to it again."""
        artifact = Artifact(hash_file(source), source.stat().st_size)
        if self.holds(artifact):
            return artifact
        with open(source, "rb") as file:
            os.fsync(file.fileno())
        # A second name first: a process killed in between leaves no read-only file that has but one.
        draft = source.with_name(f"{source.name}.{secrets.token_hex(8)}")
        os.link(source, draft)
        os.chmod(draft, 0o444)
        target = self._folder / artifact.sha256
        os.rename(draft, target)
        fsync_folder(self._folder)
        self._remember(artifact, target)
        return artifact

    def holds(self, artifact: Artifact) -> bool:
        """Whether the file is there and sound; a damaged one is replaced, which heals what names it."""
        try:
            self.path(artifact)
        except VssError:
            return False
        return True

    def path(self, artifact: Artifact) -> Path:
        """Where the file lies, verified. Raises VssError (CORRUPT) when it is missing or not what its name says."""
        path = self._folder / artifact.sha256
        try:
            stat = path.stat()
        except FileNotFoundError as error:
            raise VssError(
                Code.CORRUPT,
                f"artifact {artifact.sha256[:12]} is missing",
                hint="restore it from a snapshot, or build the index again",
            ) from error
        with self._lock:
            known = self._receipts.get(artifact.sha256)
        if known == (stat.st_ino, stat.st_size, stat.st_mtime_ns):
            return path
        if stat.st_size != artifact.bytes or hash_file(path) != artifact.sha256:
            raise VssError(
                Code.CORRUPT,
                f"artifact {artifact.sha256[:12]} does not have the bytes that its name says",
                hint="restore it from a snapshot, or build the index again",
            )
        self._remember(artifact, path)
        return path

    def _remember(self, artifact: Artifact, path: Path) -> None:
        stat = path.stat()
        with self._lock:
            # Another process may have added receipts since: keep both. A lost receipt only costs a hash.
            self._receipts = self._read_receipts() | self._receipts
            self._receipts[artifact.sha256] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            draft = self._receipts_file.with_suffix(f".{os.getpid()}.tmp")
            draft.write_bytes(msgspec.json.encode(self._receipts))
            os.replace(draft, self._receipts_file)

    def _read_receipts(self) -> Receipts:
        try:
            return msgspec.json.decode(self._receipts_file.read_bytes(), type=Receipts)
        except (OSError, msgspec.MsgspecError):
            return {}


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames and new files in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
