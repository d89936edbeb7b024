"""Reading every byte of a collection again: what a receipt vouches for may have rotted since.

A receipt (inode, size, mtime) spares a process from hashing what was verified once; a disk changes bytes without
touching any of the three. So the worker reads everything again, slowly, once a day, and what it finds damaged all
processes heed (`storage.damage`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from vss.errors import VssError
from vss.storage.artifacts import Artifact, ArtifactStore
from vss.storage.history import retained
from vss.storage.log import Log
from vss.storage.manifest import artifacts_of, read_manifest

BYTES_PER_SECOND = 32 << 20
"""What the worker's scrub reads."""

EVERY_SECONDS = 24 * 3600.0
"""How long it rests after each round."""

SCRUBBED = "scrubbed"
"""File of a collection whose mtime is the end of its last scrub."""

Pace = Callable[[int], None]
"""Called with the bytes that were read; waits, or raises to stop."""


def at_once(_: int) -> None:
    """The pace of those who wait for the end."""


def paced(wait: Callable[[float], object], bytes_per_second: int = BYTES_PER_SECOND) -> Pace:
    """So many bytes in a second. `wait` is given seconds."""
    began, read = time.monotonic(), 0

    def pace(count: int) -> None:
        nonlocal read
        read += count
        wait(max(0.0, began + read / bytes_per_second - time.monotonic()))

    return pace


def scrub(folder: Path, pace: Pace = at_once) -> Iterator[VssError]:
    """Read the log, the manifests and every artifact of the retained generations; what is wrong, as it is found."""
    try:
        log = Log(folder / "log.db")
    except VssError as error:
        yield error
        return
    store = ArtifactStore(folder / "artifacts")
    named: dict[str, Artifact] = {}
    try:
        yield from log.check()
        for one in retained(log):
            try:
                manifest = read_manifest(folder / "manifests", one.generation, one.manifest)
            except VssError as error:
                yield error
            else:
                named |= {artifact.sha256: artifact for artifact in artifacts_of(manifest)}
    except VssError as error:
        yield error
    finally:
        log.close()
    for artifact in named.values():
        try:
            store.verify(artifact)
        except VssError as error:
            if _is_named(folder, artifact):
                yield error
            else:
                store.damage.forget(artifact.sha256)  # it was collected meanwhile
        pace(artifact.bytes)
    with suppress(OSError):
        (folder / SCRUBBED).touch()


def _is_named(folder: Path, artifact: Artifact) -> bool:
    """Whether a retained generation still names the file; yes when that cannot be told."""
    try:
        log = Log(folder / "log.db")
        try:
            kept = [read_manifest(folder / "manifests", one.generation, one.manifest) for one in retained(log)]
        finally:
            log.close()
    except VssError:
        return True
    return any(artifact in artifacts_of(manifest) for manifest in kept)
