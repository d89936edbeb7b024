"""Making a generation current: the one small step of a job that belongs to the writer.

A job builds artifacts in its own process, then hands its manifest to a `Publisher`: here and now when no server runs
(`LocalPublisher`), or over the server's Unix socket (`vss.jobs.remote`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from msgspec.structs import replace

from vss.errors import Code, VssError
from vss.storage.artifacts import fsync_folder
from vss.storage.build import store_rows
from vss.storage.collection import Collection
from vss.storage.datadir import DataDir, WriterLock
from vss.storage.log import Log, Pointer
from vss.storage.manifest import Manifest, ModelRecord, SegmentRecord, write_manifest
from vss.storage.segment import Segment
from vss.storage.view import View
from vss.types import Mask

T = TypeVar("T")

CHEAP_ATTEMPTS = 20
"""How often what takes little time is done again when another publication overtook it."""


class Publisher(Protocol):
    """Who commits for a job."""

    def publish(self, manifest: Manifest) -> None:
        """Make the manifest current. VssError (CONFLICT) when its parent no longer is; nothing is published then."""


def until_published(job: Callable[[], T], attempts: int) -> T:
    """What `job` returns; done again each time that another publication overtook its own.

    Raises VssError (CONFLICT) when that happened `attempts` times, and whatever else the job raises at once.
    """
    for _ in range(attempts):
        try:
            return job()
        except VssError as error:
            if error.code is not Code.CONFLICT:
                raise
    raise VssError(
        Code.CONFLICT, f"other jobs published {attempts} times while this one tried", hint="run the job again"
    )


def publish(log: Log, manifests: Path, manifest: Manifest) -> None:
    """Write the manifest durably and move the pointer to it. Only the holder of the writer lock calls this."""

    def write() -> Pointer:
        written = write_manifest(manifests, manifest)
        fsync_folder(manifests.parent)  # the folders of manifests and artifacts may be new
        return Pointer(manifest.generation, written, manifest.covered_seq)

    log.publish(manifest.parent, manifest.generation, write)


class LocalPublisher:
    """Publishes from this process, which takes the writer lock for the moment. VssError (LOCKED) when it is held."""

    def __init__(self, data: DataDir) -> None:
        self._data = data

    def publish(self, manifest: Manifest) -> None:
        """Make the manifest current."""
        folder = self._data.collection(manifest.collection)
        with WriterLock(self._data):
            log = Log(folder / "log.db")
            try:
                publish(log, folder / "manifests", manifest)
            finally:
                log.close()


def next_manifest(
    collection: Collection,
    view: View,
    segments: list[SegmentRecord],
    *,
    covered_seq: int,
    source: str,
    models: dict[str, ModelRecord] | None = None,
) -> Manifest:
    """The next generation, made from the view's, with these segments."""
    parent = view.manifest
    return Manifest(
        collection=collection.folder.name,
        generation=collection.log.newest_generation() + 1,
        parent=view.generation,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source,
        schema=collection.schema,
        covered_seq=covered_seq,
        segments=tuple(segments),
        models=(parent.models if parent else {}) | (models or {}),
    )


def successor(
    collection: Collection, manifest: Manifest, segments: Iterable[SegmentRecord], *, source: str
) -> Manifest:
    """The next generation, made from this one: the same points, in these segments."""
    return replace(
        manifest,
        generation=collection.log.newest_generation() + 1,
        parent=manifest.generation,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source,
        segments=tuple(segments),
    )


def with_tombstones(collection: Collection, segment: Segment, alive: Mask | None, staged: Path) -> SegmentRecord:
    """The segment's record with exactly the rows outside `alive` as its tombstones. staged: the job's own folder."""
    dead = np.zeros(0, np.int64) if alive is None else np.flatnonzero(~alive)
    if len(dead) == segment.record.deleted:
        return segment.record
    tombstones = store_rows(collection.artifacts, staged, dead)
    return replace(segment.record, tombstones=tombstones, deleted=len(dead))
