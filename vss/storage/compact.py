"""Merging segments into an indexed one while others go on writing, sealing and importing.

Only what segments hold is merged; the live part stays as it is, and its operations apply to the new segment as they did
to the old ones. So the merge changes no answer, and holds beside whatever was published while it was built: rows that
are dead by now get tombstones, new segments stay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from vss.defaults import MIN_RECALL
from vss.errors import Code, VssError
from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage import accept
from vss.storage.artifacts import ArtifactStore
from vss.storage.build import Base, Block, SegmentBuilder, store_rows
from vss.storage.collection import Collection
from vss.storage.manifest import Manifest, SegmentRecord, artifacts_of
from vss.storage.merge import live_rows
from vss.storage.npy import map_npy
from vss.storage.publish import CHEAP_ATTEMPTS, Publisher, successor, until_published
from vss.storage.refusals import Refusal, Refusals
from vss.storage.segment import Segment
from vss.storage.staging import staging_folder
from vss.storage.view import Part
from vss.types import Mask, Progress, Rows, no_progress

BLOCK_ROWS = 2_048

Sources = Mapping[str, Mask]
"""Segment id -> `(n,)` which of its rows were merged; in the order in which they were."""


def compact(
    collection: Collection,
    merged: Sequence[SegmentRecord],
    publisher: Publisher,
    indexers: Indexers,
    *,
    threads: int,
    progress: Progress = no_progress,
    source: str = "fold",
    anew: bool = False,
    min_recall: float = MIN_RECALL,
) -> Manifest:
    """Make one indexed segment of `merged` and publish it when it passes `accept.check`.

    The largest of them comes first, so that the others can be inserted into its index, unless that is built `anew`.
    progress:   counts indexed vectors; called with 0 while rows are copied
    source:     what makes the generation, for people
    min_recall: recall@10 that the index has to reach, 0 to 1
    Raises VssError: CONFLICT when another job merged the same segments meanwhile, CORRUPT. `accept.Refused` when what
    was built is not good enough: nothing changes but the note of it (`storage.refusals`).
    """
    asked, refusals = collection.schema.index, Refusals(collection.folder)
    with ExitStack() as stack:
        staged = stack.enter_context(staging_folder(collection.staging, "fold"))
        _borrow(collection, merged, staged)
        builder = stack.enter_context(SegmentBuilder(collection.schema, staged / "segment"))
        sources: dict[str, Mask] = {}
        opened: list[Segment] = []
        largest = max(merged, key=live_rows)
        for record in (largest, *(one for one in merged if one is not largest)):
            segment = Segment(record, collection.artifacts, indexers)
            stack.callback(segment.close)
            opened.append(segment)
            anew = anew or bool(segment.damage)
            sources[record.id] = alive_rows(record, collection.artifacts)
            for block in blocks(Part(segment, segment.alive), collection.schema):
                builder.add(block)
                progress(0)
        built = None
        if builder.rows:
            built = builder.finish(
                collection.artifacts,
                indexers,
                asked,
                threads=threads,
                progress=progress,
                extends=None if anew else Base(largest, sources[largest.id]),
            )
            pairs = list(zip(opened, sources.values(), strict=True))
            try:
                accept.check(built, pairs, collection.artifacts, indexers, min_recall)
            except accept.Refused as error:
                before = refusals.read()
                refusals.note(
                    Refusal(
                        what=error.message,
                        at=time.time(),
                        builds=before.builds + 1 if before else 1,
                        segments=frozenset(sources),
                        index=asked,
                        min_recall=min_recall,
                    )
                )
                raise

        def once() -> Manifest:
            manifest = collection.current()
            assert manifest is not None  # there were segments
            segments = _replaced(manifest, sources, built, collection, staged)
            following = successor(collection, manifest, segments, source=source)
            publisher.publish(following)
            return following

        published = until_published(once, CHEAP_ATTEMPTS)
        refusals.clear()
        return published


def _borrow(collection: Collection, merged: Sequence[SegmentRecord], staged: Path) -> None:
    """Keep what is merged from being collected as long as the job runs, whatever is published meanwhile."""
    pinned = [collection.artifacts.pin(artifact, staged) for artifact in artifacts_of(merged)]
    now = collection.current()
    if not all(pinned) and (now is None or any(one not in now.segments for one in merged)):
        raise _overtaken()


def blocks(part: Part, schema: Schema) -> Iterator[Block]:
    """The rows of a part that count, in blocks, with the vectors that the schema names."""
    rows: Rows = np.arange(len(part.body)) if part.alive is None else np.flatnonzero(part.alive)
    for start in range(0, len(rows), BLOCK_ROWS):
        chosen = rows[start : start + BLOCK_ROWS]
        vectors = {name: part.body.some_vectors(name, chosen) for name in schema.vectors}
        listed = chosen.tolist()
        yield Block(
            keys=[part.body.key(row) for row in listed],
            payloads=[part.payload(row) for row in listed],
            versions=np.asarray([part.version(row) for row in listed], np.int64),
            vectors={name: some for name, some in vectors.items() if len(some[0])},
        )


def alive_rows(record: SegmentRecord, artifacts: ArtifactStore) -> Mask:
    """`(n,)` False on tombstones."""
    alive = np.ones(record.rows, np.bool_)
    if record.tombstones is not None:
        alive[map_npy(artifacts.path(record.tombstones))] = False
    return alive


def _replaced(
    manifest: Manifest, sources: Sources, built: SegmentRecord | None, collection: Collection, staged: Path
) -> list[SegmentRecord]:
    """The generation's segments with `built` in the place of its sources. VssError (CONFLICT)."""
    now = {one.id: one for one in manifest.segments if one.id in sources}
    if not now:
        raise _overtaken()
    alive = []
    for segment_id, merged in sources.items():
        # A segment that is gone was replaced row by row, or merged by another job: its rows lie elsewhere, or are dead.
        left = np.zeros(len(merged), np.bool_)
        if segment_id in now:
            left = alive_rows(now[segment_id], collection.artifacts)
            if (left & ~merged).any():
                raise _overtaken()  # rows came back to life
        alive.append(left[merged])
    segments = [one for one in manifest.segments if one.id not in sources]
    kept = np.concatenate(alive)
    if built is not None:
        kept &= alive_rows(built, collection.artifacts)
    if built is not None and kept.any():
        dead = np.flatnonzero(~kept)
        # A vector name that was dropped meanwhile left every segment, and must not come back under that name.
        names = {name for one in now.values() for name in one.vectors}
        segments.append(
            replace(
                built,
                vectors={name: one for name, one in built.vectors.items() if name in names},
                tombstones=store_rows(collection.artifacts, staged, dead),
                deleted=len(dead),
            )
        )
    return segments


def _overtaken() -> VssError:
    return VssError(Code.CONFLICT, "another job has changed the same segments meanwhile", hint="run the job again")
