"""Sealing and folding: live points, small segments and tombstones become one new segment.

    seal   the live part becomes a segment without a graph, at once, so that it stays bounded
    fold   the live part and the small segments become one indexed segment, in a job's own process

Both make the next generation beside the current one and move the pointer; a reader sees either.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from msgspec import structs

from vss.protocols import Indexers
from vss.schema import IndexSettings, Schema
from vss.storage.build import Block, SegmentBuilder
from vss.storage.collection import Collection
from vss.storage.manifest import Manifest, SegmentRecord
from vss.storage.publish import Publisher, next_manifest, with_tombstones
from vss.storage.segment import Segment
from vss.storage.view import Part, View
from vss.types import Progress, Rows, no_progress

LIVE_OPERATIONS = 20_000
"""Operations in the live part that make the writer seal it."""

LIVE_BYTES = 64 << 20
"""Bytes in the live part that make the writer seal it."""

SMALL_ROWS = 20_000
"""Segments up to this size are always merged by a fold: building their graph again takes seconds."""

BLOCK_ROWS = 2_048


def seal(collection: Collection, publisher: Publisher, indexers: Indexers) -> Manifest:
    """Turn the live part into a flat segment and publish."""
    view = collection.view()
    flat = IndexSettings(kind="flat")
    return _rewrite(collection, view, [view.parts[-1]], publisher, indexers, flat, "seal", 1, no_progress)


def fold(
    collection: Collection,
    publisher: Publisher,
    indexers: Indexers,
    *,
    threads: int,
    progress: Progress = no_progress,
) -> Manifest:
    """Turn the live part, small segments and those with many tombstones into one indexed segment, and publish.

    Raises VssError (CONFLICT) when another job published meanwhile; nothing is changed then.
    """
    view = collection.view()
    merged, settings = to_merge(view), collection.schema.index
    return _rewrite(collection, view, merged, publisher, indexers, settings, "fold", threads, progress)


def to_merge(view: View) -> list[Part]:
    """Which parts a fold makes one: the live part, and by rising size what is small beside what has gathered.

    So each point is copied about log(n) times over its life, as in a log-structured merge tree.
    """
    merged = [view.parts[-1]]
    gathered = merged[0].count()
    for part in sorted(view.parts[:-1], key=Part.count):
        rows = part.count()
        if rows <= max(SMALL_ROWS, 2 * gathered) or rows < 0.8 * len(part.body):
            merged.append(part)
            gathered += rows
    return merged


def _rewrite(
    collection: Collection,
    view: View,
    merged: Sequence[Part],
    publisher: Publisher,
    indexers: Indexers,
    settings: IndexSettings,
    source: str,
    threads: int,
    progress: Progress,
) -> Manifest:
    records: list[SegmentRecord] = []
    moved = list(merged)
    for part in view.parts:
        if not isinstance(part.body, Segment) or part in merged:
            continue
        # What live operations replaced or patched leaves its segment: those operations are covered from now on.
        alive = part.alive
        if part.patches:
            patched = np.zeros(len(part.body), np.bool_)
            patched[list(part.patches)] = True
            moved.append(replace(part, alive=patched))
            alive = ~patched if alive is None else alive & ~patched
        if alive is None or alive.any():
            records.append(without_dropped(with_tombstones(collection, part.body, alive), collection.schema))
    with SegmentBuilder(collection.schema, collection.staging / secrets.token_hex(8)) as builder:
        for part in moved:
            for block in blocks(part, collection.schema):
                builder.add(block)
        if builder.rows:
            records.append(builder.finish(collection.artifacts, indexers, settings, threads=threads, progress=progress))
    manifest = next_manifest(collection, view, records, covered_seq=view.seq, source=source)
    publisher.publish(manifest)
    return manifest


def without_dropped(record: SegmentRecord, schema: Schema) -> SegmentRecord:
    """The record without vectors that the schema no longer names; their files stay for older generations."""
    kept = {name: vectors for name, vectors in record.vectors.items() if name in schema.vectors}
    return record if len(kept) == len(record.vectors) else structs.replace(record, vectors=kept)


def blocks(part: Part, schema: Schema) -> Iterator[Block]:
    """The rows of a part that count, in blocks, with the vectors that the schema names."""
    rows: Rows = np.arange(len(part.body)) if part.alive is None else np.flatnonzero(part.alive)
    for start in range(0, len(rows), BLOCK_ROWS):
        chosen = rows[start : start + BLOCK_ROWS].tolist()
        points = [part.point(row) for row in chosen]
        vectors = {}
        for name in schema.vectors:
            have = [place for place, point in enumerate(points) if name in point.vectors]
            if have:
                data = np.stack([points[place].vectors[name] for place in have])
                vectors[name] = (np.asarray(have, np.int64), data)
        yield Block(
            keys=[part.body.key(row) for row in chosen],
            payloads=[point.payload for point in points],
            versions=np.asarray([point.version for point in points], np.int64),
            vectors=vectors,
        )
