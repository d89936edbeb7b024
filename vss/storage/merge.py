"""What a fold merges, and when the worker folds: decided from the manifest alone, no segment is opened.

to_merge   which segments become one
survey     what that would do, as a few numbers
due        whether it is worth its work now
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vss.protocols import Indexers
from vss.schema import Schema
from vss.storage.manifest import Manifest, SegmentRecord
from vss.storage.npy import rows_in

SMALL_ROWS = 20_000
"""Segments up to this size are always merged by a fold: building their graph again takes seconds."""

SCANNED = frozenset(("flat", "coded"))
"""Kinds of index that look at every vector: where there is to be another one, such a segment waits for it."""

PILE = 8
"""Segments that one fold can merge which make it due, and segments left over that make it reach further."""

UNINDEXED_ROWS = 20_000
"""Points that lack their index which make a fold due: what the writer seals at a time."""

UNINDEXED_SHARE = 0.25
"""Fewer make it due when they are this part of the collection."""

DEAD_SHARE = 0.2
"""Tombstones past this part of a segment are worth writing it again."""

DEAD_ROWS = 5_000
"""Fewer tombstones than this, in all such segments together, make no fold due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What a fold would do now.

    points:    of the collection, in segments
    segments:  that would become one
    unindexed: points of these that would get an index and have none
    dead:      tombstones that would go, of segments that are past `DEAD_SHARE`
    """

    points: int
    segments: int
    unindexed: int = 0
    dead: int = 0


def due(merge: Merge, *, settled: bool = True) -> str | None:
    """Why a fold is worth its work now, or None.

    settled: whether writes have ceased. Where they go on a fold would soon be due again, and what waits for it costs
             queries less: of 20,000 points as much as walking their graph. More has to gather then.

    Every reason is about as much new as the fold has to write: so many new points, so many segments that become one,
    so many rows that go. As `to_merge` leaves large segments alone until enough has gathered beside them, each point is
    written about log(points) times over its life, and a small change never rebuilds a large collection. A fold
    takes its own reason away, so it is never repeated for nothing. Points without an index stay bounded: past
    `UNINDEXED_ROWS` they are always due. Where exact search is the index, nothing is unindexed, and only piles count.
    """
    enough = min(UNINDEXED_ROWS, UNINDEXED_SHARE * merge.points) if settled else UNINDEXED_ROWS
    if merge.unindexed and merge.unindexed >= enough:
        return f"{merge.unindexed:,} points have no index"
    if merge.segments >= PILE:
        return f"{merge.segments} segments can be one"
    if merge.dead >= (DEAD_ROWS if settled else UNINDEXED_ROWS):
        return f"{merge.dead:,} rows are deleted or replaced"
    return None


def survey(manifest: Manifest, schema: Schema, indexers: Indexers) -> Merge:
    """What a fold of this generation would do. VssError when the schema asks for an index that is not installed."""
    merged = to_merge(manifest, schema, indexers)
    unindexed = 0
    for name in schema.vectors:
        if _indexable(schema, name, sum(_vectors(one, schema, name) for one in merged), indexers):
            unindexed = max(unindexed, sum(_vectors(one, schema, name) for one in merged if _scanned(one, name)))
    return Merge(
        points=sum(map(live_rows, manifest.segments)),
        segments=len(merged),
        unindexed=unindexed,
        dead=sum(one.deleted for one in merged if _crowded(one)),
    )


def backlog(manifest: Manifest | None, live: int, schema: Schema, indexers: Indexers, at_least: int = 1) -> int:
    """Points that every query scans until a fold gives them an index, the `live` ones that lie in no segment yet
    included; 0 for fewer than `at_least`."""
    waiting = 0
    for name in schema.vectors:
        count = live
        for one in manifest.segments if manifest else ():
            count += _vectors(one, schema, name) if _scanned(one, name) else 0
        if count >= max(at_least, waiting + 1) and _indexable(schema, name, count, indexers):
            waiting = count
    return waiting


def to_merge(manifest: Manifest, schema: Schema, indexers: Indexers) -> list[SegmentRecord]:
    """Which segments a fold makes one.

    Those that are large enough for an index and have none, those with many tombstones, and by rising size what is
    small beside what has gathered. So each point is copied about log(n) times over its life, as in a log-structured
    merge tree. Where more than `PILE` would be left, the fold reaches up to the last one that is small beside all
    before it: a pile of equal large segments becomes one.
    """
    needed = [one for one in manifest.segments if _crowded(one) or _lacks_index(one, schema, indexers)]
    others = sorted((one for one in manifest.segments if one not in needed), key=live_rows)
    small: list[bool] = []
    gathered = sum(map(live_rows, needed))
    for one in others:
        small.append(live_rows(one) <= max(SMALL_ROWS, 2 * gathered))
        gathered += live_rows(one)
    reach = _leading(small)
    if len(others) - reach > PILE:
        reach = max(place for place in range(len(others) + 1) if place == 0 or small[place - 1])
    return needed + others[:reach]


def live_rows(record: SegmentRecord) -> int:
    """Rows that are not tombstones."""
    return record.rows - record.deleted


def _leading(flags: Sequence[bool]) -> int:
    return flags.index(False) if False in flags else len(flags)


def _crowded(record: SegmentRecord) -> bool:
    return record.deleted > DEAD_SHARE * record.rows


def _lacks_index(record: SegmentRecord, schema: Schema, indexers: Indexers) -> bool:
    return any(
        _scanned(record, name) and _indexable(schema, name, _vectors(record, schema, name), indexers)
        for name in schema.vectors
    )


def _scanned(record: SegmentRecord, name: str) -> bool:
    return name in record.vectors and record.vectors[name].index.kind in SCANNED


def _vectors(record: SegmentRecord, schema: Schema, name: str) -> int:
    """Vectors of that name; tombstones do not count where every row has one."""
    if name not in record.vectors:
        return 0
    return min(live_rows(record), rows_in(record.vectors[name].vectors.bytes, 4 * schema.vectors[name].dim))


def _indexable(schema: Schema, name: str, count: int, indexers: Indexers) -> bool:
    """Whether so many vectors get another index than exact search."""
    vector, index = schema.vectors[name], schema.index
    return count > 0 and indexers.choose(index.kind, vector.metric, vector.dim, count, index.params).kind not in SCANNED
