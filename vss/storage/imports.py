"""Adopting a segment that a bulk import built: which of its rows, and which of the rows before it, count.

An imported row counts as written when the import started (`started_seq`): it replaces what was there before, and any
write that was acknowledged after that replaces it, wherever that write lies by now.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from vss.errors import Code, VssError
from vss.protocols import Indexers
from vss.storage.collection import Collection
from vss.storage.manifest import Manifest, ModelRecord, SegmentRecord
from vss.storage.publish import Publisher, next_manifest, with_tombstones
from vss.storage.segment import Segment
from vss.types import Mask

ATTEMPTS = 20
"""How often a publication that another one overtook is tried again."""


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
    try:
        for _ in range(ATTEMPTS):
            manifest = _manifest(collection, imported, started_seq, mode, models, source)
            try:
                publisher.publish(manifest)
                return manifest
            except VssError as error:
                if error.code is not Code.CONFLICT:
                    raise
        raise VssError(
            Code.CONFLICT, f"other jobs published {ATTEMPTS} times while this one tried", hint="run the import again"
        )
    finally:
        imported.close()


def _manifest(
    collection: Collection,
    imported: Segment,
    started_seq: int,
    mode: Mode,
    models: dict[str, ModelRecord],
    source: str,
) -> Manifest:
    view = collection.view()
    alive = _not_written_since(collection, imported, started_seq)
    records = []
    for part in view.parts:
        if isinstance(part.body, Segment):
            kept = _settle(part.body, imported, alive, started_seq, mode)
            if kept is None or kept.any():
                records.append(with_tombstones(collection, part.body, kept))
    records.append(with_tombstones(collection, imported, None if alive.all() else alive))
    covered = view.manifest.covered_seq if view.manifest else 0
    if mode is Mode.REPLACE:
        covered = max(covered, started_seq)
    return next_manifest(collection, view, records, covered_seq=covered, source=source, models=models)


def _not_written_since(collection: Collection, imported: Segment, started_seq: int) -> Mask:
    """Imported rows that no later operation touched. The log is asked, not the segments: of a deletion that a fold
    has covered meanwhile they keep no trace, and the point would come back."""
    alive: Mask = np.ones(len(imported), np.bool_) if imported.alive is None else imported.alive.copy()
    for key in collection.log.keys_after(started_seq):
        row = imported.find(key)
        if row >= 0:
            alive[row] = False
    return alive


def _settle(before: Segment, imported: Segment, alive: Mask, started_seq: int, mode: Mode) -> Mask | None:
    """Which rows of an older segment still count; None for all. Clears in `alive` the imported rows that lose to it."""
    kept = np.ones(len(before), np.bool_) if before.alive is None else before.alive.copy()
    if mode is Mode.REPLACE:
        kept &= before.versions > started_seq
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
