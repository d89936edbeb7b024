"""Purging: what was deleted or replaced leaves the disk for good, not only every answer.

    seal     what was written so far is in segments
    rewrite  each segment with dead rows is written anew without them, and its index built anew
    retire   the other generations, then the log's operations; its file is written anew and its WAL emptied
    sweep    the files that only those named

Killed at any point it leaves a whole collection, and run again it does the rest. What lies elsewhere stays: dead
letters of imports, an embedding cache, bundles, copies of the data directory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vss.errors import Code, VssError
from vss.jobs.collect import sweep
from vss.jobs.journal import killed_imports
from vss.jobs.remote import Writer
from vss.protocols import Indexers
from vss.storage.collection import Collection
from vss.storage.compact import compact
from vss.storage.datadir import DataDir
from vss.storage.fold import seal
from vss.storage.history import retained
from vss.storage.manifest import Manifest, artifacts_of
from vss.storage.publish import CHEAP_ATTEMPTS, until_published
from vss.storage.staging import in_use, live_folders
from vss.types import Progress, no_progress

ATTEMPTS = 5
"""How often a segment is written again when another job changed it meanwhile."""

PATIENCE_SECONDS = 600.0
"""How long jobs that read what should go are waited for."""

PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did. rewritten: segments; files and bytes: that it removed; operations: of the log."""

    manifest: Manifest
    rewritten: int
    files: int
    bytes: int
    operations: int


def purge(
    data: DataDir,
    collection: Collection,
    writer: Writer,
    indexers: Indexers,
    *,
    threads: int,
    progress: Progress = no_progress,
) -> Purged:
    """Remove all that was deleted or replaced before the call. `progress` counts indexed vectors.

    VssError: CONFLICT (an import or a fold is at work, or kept changing the segments), and what a fold raises.
    """
    name = collection.folder.name
    _check_jobs(data, collection)

    def once(segment: str) -> bool:
        now = collection.current()
        left = [one for one in now.segments if one.id == segment] if now else []
        if left:  # else a fold has written it anew meanwhile
            # Nothing is taken from its old index, where what is gone may have left its traces.
            # However poor the new one is: what was asked for is that the data goes.
            compact(
                collection,
                left,
                writer,
                indexers,
                threads=threads,
                progress=progress,
                source="purge",
                anew=True,
                min_recall=0.0,
            )
        return bool(left)

    collection.view()
    manifest = collection.current()
    if manifest is None or collection.live_size[0]:
        manifest = until_published(lambda: seal(collection, writer, indexers), CHEAP_ATTEMPTS)
    # A fold that began before that has rows in its hands that are dead by now; one that begins later leaves them out.
    _wait_for(live_folders(collection.staging))
    rewritten = 0
    for record in manifest.segments:
        if record.deleted and until_published(partial(once, record.id), ATTEMPTS):
            rewritten += 1
    current = collection.current()
    assert current is not None  # there was one, and none is ever taken away
    files, size, operations = 0, 0, 0
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        for killed in killed_imports(collection.staging):
            killed.remove()
        operations += writer.retire(name, 1, erase=True).operations
        swept = sweep(data, name)
        files, size = files + len(swept), size + sum(one.bytes for one in swept)
        if _is_clean(data, collection, manifest.covered_seq):
            return Purged(current, rewritten, files, size, operations)
        if time.monotonic() > until:
            raise VssError(
                Code.CONFLICT, "other jobs kept reading what should be purged", hint="run the purge again after them"
            )
        time.sleep(PAUSE_SECONDS)


def _check_jobs(data: DataDir, collection: Collection) -> None:
    """An import that runs holds rows and operations which nobody may take from it."""
    if data.held_seq(collection.folder.name) is None:
        return
    busy = [one.name for one in (*live_folders(collection.staging), *live_folders(data.path / "staging"))]
    if busy:
        raise VssError(
            Code.CONFLICT,
            f"a job is at work in this collection ({busy[0]})",
            hint="run the purge again when it has ended",
        )


def _wait_for(folders: list[Path]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    for folder in folders:
        while folder in live_folders(folder.parent):
            if time.monotonic() > until:
                raise VssError(
                    Code.CONFLICT, f"a job is at work in this collection ({folder.name})", hint="run the purge again"
                )
            time.sleep(PAUSE_SECONDS)


def _is_clean(data: DataDir, collection: Collection, covered: int) -> bool:
    """Whether there is one generation, which covers the start of the purge, and no file but its own."""
    generations = retained(collection.log)
    if len(generations) != 1 or generations[0].covered_seq < covered:
        return False
    busy = in_use(collection.staging, data.path / "staging")
    stored = {path.name: path.stat().st_ino for path in (collection.folder / "artifacts").iterdir()}
    named = {one.sha256 for one in artifacts_of(collection.current())}
    return not any(name not in named and inode in busy for name, inode in stored.items())
