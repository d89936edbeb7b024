"""Sealing and folding: live points, small segments and tombstones become one new segment.

    seal   the live part becomes a segment without a graph, at once, so that it stays bounded
    fold   seals, then merges small segments into one indexed segment, in a job's own process

Each makes the next generation beside the current one and moves the pointer; a reader sees either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from msgspec import structs

from vss.defaults import MIN_RECALL
from vss.protocols import Indexers
from vss.schema import SCAN, IndexSettings, Schema
from vss.storage.build import SegmentBuilder
from vss.storage.collection import Collection
from vss.storage.compact import blocks, compact
from vss.storage.manifest import Manifest, SegmentRecord
from vss.storage.merge import live_rows, to_merge
from vss.storage.publish import CHEAP_ATTEMPTS, Publisher, next_manifest, until_published, with_tombstones
from vss.storage.segment import Segment
from vss.storage.staging import staging_folder
from vss.types import Progress, no_progress

LIVE_OPERATIONS = 20_000
"""Operations in the live part that make the writer seal it."""

LIVE_BYTES = 64 << 20
"""Bytes in the live part that make the writer seal it."""


def seal(collection: Collection, publisher: Publisher, indexers: Indexers) -> Manifest:
    """Turn the live part into a segment that is scanned, and publish."""
    view, scanned = collection.view(), IndexSettings(kind=SCAN)
    records: list[SegmentRecord] = []
    moved = [view.parts[-1]]
    # Until the pointer has moved the folder says that what is stored here is needed.
    with staging_folder(collection.staging, "seal") as staged:
        for part in view.parts[:-1]:
            assert isinstance(part.body, Segment)
            # What live operations replaced or patched leaves its segment: those operations are covered from now on.
            alive = part.alive
            if part.patches:
                patched = np.zeros(len(part.body), np.bool_)
                patched[list(part.patches)] = True
                moved.append(replace(part, alive=patched))
                alive = ~patched if alive is None else alive & ~patched
            if alive is None or alive.any():
                record = with_tombstones(collection, part.body, alive, staged)
                records.append(without_dropped(record, collection.schema))
        with SegmentBuilder(collection.schema, staged / "segment") as builder:
            for part in moved:
                for block in blocks(part, collection.schema):
                    builder.add(block)
            if builder.rows:
                records.append(builder.finish(collection.artifacts, indexers, scanned, threads=1))
        manifest = next_manifest(collection, view, records, covered_seq=view.seq, source="seal")
        publisher.publish(manifest)
    return manifest


def fold(
    collection: Collection,
    publisher: Publisher,
    indexers: Indexers,
    *,
    threads: int,
    min_recall: float = MIN_RECALL,
    begin: Progress = no_progress,
    progress: Progress = no_progress,
) -> Manifest:
    """Turn the live part, small segments and those with many tombstones into one indexed segment, and publish.

    `begin` is called with how many rows are merged, before `progress` counts indexed vectors.
    min_recall: recall@10 that the index has to reach, 0 to 1
    Raises VssError (CONFLICT) when another job merged the same segments meanwhile, and what `compact` raises.
    """
    collection.view()
    manifest = collection.current()
    if manifest is None or collection.live_size[0]:
        manifest = until_published(lambda: seal(collection, publisher, indexers), CHEAP_ATTEMPTS)
    merged = to_merge(manifest, collection.schema, indexers)
    if not merged:
        return manifest
    begin(sum(map(live_rows, merged)))
    return compact(collection, merged, publisher, indexers, threads=threads, progress=progress, min_recall=min_recall)


def without_dropped(record: SegmentRecord, schema: Schema) -> SegmentRecord:
    """The record without vectors that the schema no longer names; their files stay for older generations."""
    kept = {name: vectors for name, vectors in record.vectors.items() if name in schema.vectors}
    return record if len(kept) == len(record.vectors) else structs.replace(record, vectors=kept)
