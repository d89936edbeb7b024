"""What a merge has to show before its generation is published; until it does the current one goes on serving.

The segment is opened from its stored files, as readers will, and held against those that it is made of:

    points          some drawn points have the same payload, vectors and version
    calibration     some effort reached the wanted recall when the index was built
    golden queries  vectors between neighbours, which no segment holds, find what exact search of the old segments finds
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vss.defaults import MIN_RECALL
from vss.distance import best_of, exact_search
from vss.errors import Code, VssError
from vss.protocols import Indexers
from vss.recall import recall_by_score
from vss.storage.artifacts import ArtifactStore
from vss.storage.manifest import SegmentRecord, VectorsRecord
from vss.storage.segment import Segment
from vss.types import Hits, Mask, Metric, Rows, Vectors
from vss.vectors import normalised

SLACK = 0.02
"""How far below what is wanted, or below the index that it replaces, a measured recall may be by chance alone."""

QUESTIONS = 100
"""Golden queries of each vector name, and as many points that are compared (standard error of recall .01 at .95)."""

SEED = 11

K = 10

Sources = Sequence[tuple[Segment, Mask]]
"""What was merged, in this order: segments, and `(n,)` which of their rows."""


class Refused(VssError):
    """What was built is not published: its answers are not good enough."""

    def __init__(self, what: str) -> None:
        super().__init__(
            Code.INVALID,
            f"{what}; it is not published, and the current generation goes on serving",
            hint="choose another index for the collection, or lower VSS_MIN_RECALL",
        )


def check(
    built: SegmentRecord,
    sources: Sources,
    artifacts: ArtifactStore,
    indexers: Indexers,
    min_recall: float = MIN_RECALL,
) -> None:
    """Raise `Refused` when the segment does not answer as what it was made of.

    min_recall: recall@10, 0 to 1; where the largest source was let in with less, so much less is enough
    """
    segment = Segment(built, artifacts, indexers)
    try:
        if segment.damage:
            raise Refused(segment.damage[0])
        drawn = _drawn(sum(int(rows.sum()) for _, rows in sources))
        _check_points(segment, sources, drawn)
        largest = max(sources, key=lambda one: int(one[1].sum()))[0].record
        for name, one in segment.vectors.items():
            wanted = min(min_recall, best_recall(largest.vectors[name]) if name in largest.vectors else 1.0)
            shown = f"the {one.record.index.kind} index{f' of {name!r}' if name else ''}"
            best = best_recall(one.record)
            if best < wanted - SLACK:
                raise Refused(f"{shown} reached recall@10 {best:.3f} when it was built, wanted at least {wanted:.3f}")
            recall = _golden_recall(segment, name, sources)
            if recall < wanted - SLACK:
                raise Refused(f"{shown} answers golden queries with recall@10 {recall:.3f}, wanted {wanted:.3f}")
    finally:
        segment.close()


def best_recall(record: VectorsRecord) -> float:
    """The best recall@10 that any effort had when the index was built; 1 for an exact one."""
    return max((point.recall for point in record.calibration), default=1.0)


def _check_points(segment: Segment, sources: Sources, drawn: Rows) -> None:
    """Row i of the segment is row i of the merged ones, in their order, unless a later one has its key."""
    starts = np.cumsum([0, *(int(rows.sum()) for _, rows in sources)])
    if len(segment) != starts[-1]:
        raise Refused(f"the new segment has {len(segment):,} rows, wanted {starts[-1]:,}")
    for place in drawn.tolist():
        number = int(np.searchsorted(starts, place, side="right")) - 1
        source, rows = sources[number]
        row = int(np.flatnonzero(rows)[place - starts[number]])
        if segment.alive is not None and not segment.alive[place]:
            continue
        same = (
            segment.key(place) == source.key(row)
            and segment.find(source.key(row)) == place
            and segment.payload(place) == source.payload(row)
            and segment.version(place) == source.version(row)
            and all(
                np.array_equal(_vector(segment, name, place), _vector(source, name, row)) for name in segment.vectors
            )
        )
        if not same:
            raise Refused(f"row {place:,} of the new segment is not the point that was merged")


def _vector(segment: Segment, name: str, row: int) -> Vectors:
    found = segment.vector(name, row)
    return np.empty(0, np.float32) if found is None else found


def _golden_recall(segment: Segment, name: str, sources: Sources) -> float:
    one = segment.vectors[name]
    metric, count = one.record.index.metric, len(one.vectors)
    if not count:
        return 1.0
    own = np.ascontiguousarray(one.vectors[_drawn(count)])
    # Between a vector and one of its neighbours: where queries fall, and where the index holds no point of its own.
    near = exact_search(own, one.vectors, K, metric).rows[:, -1]
    queries = (own + one.vectors[np.where(near >= 0, near, 0)]) / np.float32(2)
    if metric is Metric.COSINE:
        length = np.linalg.norm(queries, axis=1)
        queries[length == 0] = own[length == 0]
        queries = normalised(queries)
    truth = Hits(np.full((len(queries), 0), -1, np.int64), np.full((len(queries), 0), -np.inf, np.float32))
    for source, rows in sources:
        vectors = source.vectors.get(name)
        if vectors is None:
            continue
        allow = rows if vectors.rows is None else rows[vectors.rows]
        found = exact_search(queries, vectors.vectors, K, metric, allow)
        truth = best_of(np.hstack((truth.rows, found.rows)), np.hstack((truth.scores, found.scores)), K)
    best = max(one.record.calibration, key=lambda point: point.recall, default=None)
    answers = [
        one.index.search(queries[row : row + 1], K, effort=best.effort if best else None).scores
        for row in range(len(queries))
    ]
    return recall_by_score(np.concatenate(answers), truth.scores)


def _drawn(count: int) -> Rows:
    random = np.random.default_rng(SEED)
    return np.sort(random.choice(count, min(QUESTIONS, count), replace=False)).astype(np.int64)
