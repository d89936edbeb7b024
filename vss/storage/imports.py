"""Adopting a segment that a bulk import built: which of its rows, and which of the rows before it, count.

An imported row counts as written when the import started (`started_seq`): it replaces what was there before, and any
write that was acknowledged after that replaces it, wherever that write lies by now.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import numpy as np

from vss.protocols import Indexers
from vss.storage.collection import Collection
from vss.storage.fold import seal
from vss.storage.manifest import Manifest, ModelRecord, SegmentRecord
from vss.storage.publish import CHEAP_ATTEMPTS, Publisher, next_manifest, until_published, with_tombstones
from vss.storage.segment import Segment
from vss.storage.staging import staging_folder
from vss.storage.view import View
from vss.types import Mask


class Mode(StrEnum):
    """What an import does with points that it does not name."""

    UPSERT = "upsert"
    REPLACE = "replace"


def adopt(
    collection: Collection,
    record: SegmentRecord,
    *,
    started_seq: int,
    mode: Mode,
    publisher: Publisher,
    indexers: Indexers,
    models: dict[str, ModelRecord],
    source: str,
) -> Manifest:
    """Publish the generation that contains the imported segment. Its rows' versions are `started_seq`.

    Opens the segment first, so a generation that cannot be read is never published.
    Raises VssError (CONFLICT) when other jobs kept overtaking it.
    """
    imported = Segment(record, collection.artifacts, indexers)

    def settle() -> Manifest:
        if mode is Mode.REPLACE and _covered(collection.view()) < started_seq:
            # What was live before the import goes, unless it was written since. Only rows of segments can tell.
            seal(collection, publisher, indexers)
        with staging_folder(collection.staging, "adopt") as staged:
            manifest = _manifest(collection, imported, started_seq, mode, models, source, staged)
            publisher.publish(manifest)
        return manifest

    try:
        return until_published(settle, CHEAP_ATTEMPTS)
    finally:
        imported.close()


def _manifest(
    collection: Collection,
    imported: Segment,
    started_seq: int,
    mode: Mode,
    models: dict[str, ModelRecord],
    source: str,
    staged: Path,
) -> Manifest:
    view = collection.view()
    # The log is asked, not the segments: of a deletion that a fold has covered meanwhile these keep no trace.
    later = collection.log.keys_after(started_seq)
    alive: Mask = np.ones(len(imported), np.bool_) if imported.alive is None else imported.alive.copy()
    alive[_rows(imported, later)] = False
    records = []
    for part in view.parts:
        if isinstance(part.body, Segment):
            kept = _settle(part.body, imported, alive, started_seq, later if mode is Mode.REPLACE else None)
            if kept is None or kept.any():
                records.append(with_tombstones(collection, part.body, kept, staged))
    records.append(with_tombstones(collection, imported, None if alive.all() else alive, staged))
    return next_manifest(collection, view, records, covered_seq=_covered(view), source=source, models=models)


def _covered(view: View) -> int:
    return view.manifest.covered_seq if view.manifest else 0


def _rows(segment: Segment, keys: Iterable[bytes]) -> list[int]:
    """The rows of those keys that the segment has."""
    return [row for row in map(segment.find, keys) if row >= 0]


def _settle(
    before: Segment, imported: Segment, alive: Mask, started_seq: int, only: Iterable[bytes] | None
) -> Mask | None:
    """Which rows of an older segment still count; None for all. Clears in `alive` the imported rows that lose to it.

    only: None keeps what the import does not name; else of that only these keys and what was written since are kept.
    """
    kept = np.ones(len(before), np.bool_) if before.alive is None else before.alive.copy()
    if only is not None:
        stays = before.versions > started_seq
        stays[_rows(before, only)] = True
        kept &= stays
    if kept.any():
        for key, row in imported.after(None, inclusive=True):
            older = before.find(key) if alive[row] else -1
            if older < 0 or not kept[older]:
                continue
            if before.versions[older] > started_seq:
                alive[row] = False  # another import, which started later, has published already
            else:
                kept[older] = False
    return None if kept.all() else kept
