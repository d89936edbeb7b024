"""Immutable files, each named by the sha256 of its bytes and shared between generations.

A file enters by `add`: hashed, fsynced, renamed into place, its folder fsynced. It leaves this module by `path`, which
checks it against its name first: once per host and file (a receipt of inode, size and mtime says that it was done),
so that no native parser ever opens bytes that nobody verified.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec

from vss.errors import Code, VssError
from vss.storage.damage import NOT_THERE, DamageList, Stamp, stamp_of

_CHUNK = 1 << 20

USED = ".used"
"""Ending of the names in a job's folder that say which artifacts it needs."""


class Artifact(msgspec.Struct, frozen=True):
    """One file: the sha256 of its bytes in hex, and how many there are. Nothing else is decoded: names become paths."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]


Receipts = dict[str, Stamp]


class ArtifactStore:
    """The artifacts of one collection.

    damage: those that were found damaged, by any process
    """

    def __init__(self, folder: Path) -> None:
        self.damage = DamageList(folder.parent / "damaged.json")
        self._folder = folder
        self._receipts_file = folder.parent / "verified.json"
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._receipts = self._read_receipts()

    def add(self, source: Path) -> Artifact:
        """Make a finished file durable in the store (same file system), and free its name for another.

        As long as the folder of `source` stays, a second name there says that a job needs the artifact, so that it is
        not collected before a manifest names it (`vss.jobs.collect`).
        """
        artifact = self.keep(source)
        os.replace(source, source.with_name(f"{artifact.sha256}{USED}"))
        source.unlink(missing_ok=True)  # two names of one file are left as they are by the line above
        return artifact

    def keep(self, source: Path) -> Artifact:
        """As `add`, but the source stays, as a second name of the same bytes: nobody may write to it again."""
        artifact = Artifact(hash_file(source), source.stat().st_size)
        draft = source.with_name(f"{source.name}.{secrets.token_hex(8)}")
        target = self._folder / artifact.sha256
        with self._no_collector():
            if self.holds(artifact):
                os.link(target, draft)
                os.replace(draft, source)
                draft.unlink(missing_ok=True)
                fsync_folder(self._folder)  # whoever put it there may have been killed before
                return artifact
            with open(source, "rb") as file:
                os.fsync(file.fileno())
            # A second name first: a process killed in between leaves no read-only file that has but one.
            os.link(source, draft)
            os.chmod(draft, 0o444)
            os.rename(draft, target)
            try:
                fsync_folder(self._folder)
            except OSError:
                target.unlink(missing_ok=True)  # nobody may take it for durable
                raise
            self._remember(artifact, target)
        return artifact

    def borrow(self, artifact: Artifact, folder: Path) -> Path:
        """A second name of a stored file in a job's folder, by which it stays as long as the folder; verified.

        VssError (CORRUPT) when it is missing or damaged.
        """
        there = self.pin(artifact, folder)
        self.path(artifact)
        assert there
        return folder / f"{artifact.sha256}{USED}"

    def pin(self, artifact: Artifact, folder: Path) -> bool:
        """As `borrow`, for a file that nobody reads yet: whether it is there."""
        name = folder / f"{artifact.sha256}{USED}"
        with self._no_collector(), suppress(FileExistsError):
            try:
                os.link(self._folder / artifact.sha256, name)
            except FileNotFoundError:
                return False
        return True

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """While nobody adds or borrows an artifact, in any process. For the moment in which garbage is moved away."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _no_collector(self) -> Iterator[None]:
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)

    def forget(self, names: Set[str]) -> None:
        """Drop the receipts of files that were collected."""
        with self._lock:
            kept = self._read_receipts() | self._receipts
            self._receipts = {name: receipt for name, receipt in kept.items() if name not in names}
            self._write_receipts()
        for name in names & self.damage.findings().keys():
            self.damage.forget(name)

    def holds(self, artifact: Artifact) -> bool:
        """Whether the file is there and sound; a damaged one is replaced, which heals what names it."""
        if stamp_of(self._folder / artifact.sha256) == NOT_THERE:
            return False  # nobody misses it: were it noted as damage, every process would open everything anew
        try:
            self.path(artifact)
        except VssError:
            return False
        return True

    def path(self, artifact: Artifact) -> Path:
        """Where the file lies, verified. Raises VssError (CORRUPT) when it is missing or not what its name says."""
        path = self._folder / artifact.sha256
        stamp = stamp_of(path)
        if stamp == NOT_THERE:
            raise self._damaged(artifact, stamp, "is missing")
        with self._lock:
            known = self._receipts.get(artifact.sha256)
        found = self.damage.findings().get(artifact.sha256)
        if found is not None and found.stamp == stamp:
            raise self._damaged(artifact, stamp, found.what)
        if known != stamp or found is not None:
            self.verify(artifact)
        return path

    def verify(self, artifact: Artifact) -> None:
        """Read all of a file, whatever was verified before. VssError (CORRUPT)."""
        path = self._folder / artifact.sha256
        stamp = stamp_of(path)
        try:
            sound = stamp[1] == artifact.bytes and hash_file(path) == artifact.sha256
        except FileNotFoundError:
            raise self._damaged(artifact, NOT_THERE, "is missing") from None
        except OSError as error:
            raise self._damaged(artifact, stamp, f"cannot be read: {error.strerror}") from error
        if not sound:
            raise self._damaged(artifact, stamp, "does not have the bytes that its name says")
        self.damage.forget(artifact.sha256)
        self._remember(artifact, path)

    def _damaged(self, artifact: Artifact, stamp: Stamp, what: str) -> VssError:
        self.damage.note(artifact.sha256, stamp, what)
        return VssError(
            Code.CORRUPT,
            f"artifact {artifact.sha256[:12]} {what}",
            hint="`vss doctor` says what can be repaired; nothing of it is deleted",
        )

    def _remember(self, artifact: Artifact, path: Path) -> None:
        stamp = stamp_of(path)
        with self._lock:
            # Another process may have added receipts since: keep both. A lost receipt only costs a hash.
            self._receipts = self._read_receipts() | self._receipts
            self._receipts[artifact.sha256] = stamp
            self._write_receipts()

    def _write_receipts(self) -> None:
        draft = self._receipts_file.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        # A receipt that a full disk does not take only costs a hash.
        try:
            draft.write_bytes(msgspec.json.encode(self._receipts))
            os.replace(draft, self._receipts_file)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _read_receipts(self) -> Receipts:
        try:
            return msgspec.json.decode(self._receipts_file.read_bytes(), type=Receipts)
        except (OSError, ValueError):
            return {}


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Create a folder and its parents where they are missing, so that they survive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and new files in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
