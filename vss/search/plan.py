"""How each part of a view answers a query: by scanning the rows that match, or by walking its graph.

The graph alone is wrong under a narrow filter: measured on 63,666 x 384 real vectors, FAISS HNSW with an allow-bitmap
at the effort that gives recall .95 unfiltered falls to .45 when 10% of the rows match and to .07 when 1% do. So the
scan is the rule and the graph is for wide filters on large segments.

An index that scans by itself (`vss.protocols.Scanner`) also keeps its recall under a filter, by walking wider; which of
the two is cheaper follows from what both took on this machine when the segment was built.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vss.protocols import scans
from vss.recall import CurvePoint, effort_for
from vss.storage.manifest import VectorsRecord
from vss.storage.segment import Segment, SegmentVectors
from vss.storage.selection import Selection
from vss.storage.view import Part

DEFAULT_RECALL = 0.99
"""The recall@10 on the calibration that a request gets when it names neither a recall nor an effort.

The calibration asks for rows of the index itself, which flatters a graph by a point or more (`vss.recall.calibrate`).
"""

SCAN_SHARE = 0.25
"""Share of matching rows below which they are scanned, however many they are."""

WIDE_SHARE = 0.8
"""Share of matching rows (a few tombstones, say) from which on the graph is walked, however few they are."""

SCAN_ROWS = 20_000
"""Matching rows up to which they are scanned when their share lies between the two."""

WIDER = 1.25
"""A filtered walk of a `Scanner` is so many times its effort over the share of matching rows."""

WALK_MS = 0.2
"""Of walking a graph; for the prediction only."""

FLOATS_PER_MS = 1_500_000
"""Components that one thread scores exactly in a millisecond; for the prediction only."""


class Method(StrEnum):
    """What a part does."""

    SCAN = "scan"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for one part.

    rows:     how many vectors by that name the part has
    matching: those that count and pass the filter
    effort:   what the graph search spends; None for a scan
    why:      in words, for `explain`
    """

    method: Method
    rows: int
    matching: int
    effort: int | None
    why: str


def plan_part(
    part: Part,
    using: str,
    selection: Selection,
    *,
    k: int,
    exact: bool = False,
    effort: int | None = None,
    recall: float | None = None,
    force: Method | None = None,
) -> Plan:
    """Choose for one part, of whose vectors the selection may be returned.

    force: this method wherever the part has it, for tests and measuring
    """
    body = part.body
    matching = selection.count
    rows = len(body.vectors[using].vectors) if isinstance(body, Segment) else len(body)

    def scan(why: str) -> Plan:
        return Plan(Method.SCAN, rows, matching, None, why)

    if not isinstance(body, Segment):
        return scan("the live part has no graph")
    if exact:
        return scan("exact search was asked for")
    if body.vectors[using].damage:
        return scan("the segment's index is damaged")
    vectors = body.vectors[using].record
    if not vectors.calibration:
        return scan(f"the segment's index is {vectors.index.kind}")
    curve = body.vectors[using].curve
    spent = effort or effort_for(curve, DEFAULT_RECALL if recall is None else recall)
    if spent is None and recall is not None:
        best = max(point.recall for point in curve)
        return scan(f"recall {recall:g} was asked for and the graph measured {best:g} at best")
    # The curve was measured for the best ten; more of them need a wider walk.
    spent = effort or max(spent or curve[-1].effort, 2 * k)
    if force is not None:
        return Plan(force, rows, matching, spent if force is Method.GRAPH else None, "it was asked for")
    if selection.whole:
        return Plan(Method.GRAPH, rows, matching, spent, "no filter")
    share = matching / rows
    if scans(body.vectors[using].index):
        scanned = matching * scan_us_a_row(vectors, vectors.index.dim)
        walked = walk_us(curve, WIDER * spent / share)
        costs = f"{share:.2%} match: scanning {scanned:,.0f} us, walking {walked:,.0f} us"
        return scan(costs) if scanned <= walked else Plan(Method.GRAPH, rows, matching, spent, costs)
    if share < SCAN_SHARE or (share < WIDE_SHARE and matching <= SCAN_ROWS):
        return scan(f"{matching} rows match, scanning them is exact and cheap")
    return Plan(Method.GRAPH, rows, matching, spent, f"{share:.0%} of the rows match")


def scan_us_a_row(vectors: VectorsRecord | None, dim: int) -> float:
    """Microseconds of one scattered row of a scan by a `Scanner`; where no build measured it, by its dimension."""
    return ((vectors and vectors.scan_ns) or 5 + 0.06 * dim) / 1000


def walk_us(curve: Sequence[CurvePoint], effort: float) -> float:
    """Microseconds of a search with that effort: between measured ones in proportion, beyond them as the last one's."""
    last = curve[-1]
    if effort > last.effort:
        return last.microseconds * effort / last.effort
    at = bisect_left(curve, effort, key=lambda point: point.effort)
    above = curve[at]
    if at == 0 or above.effort == effort:
        return above.microseconds
    below = curve[at - 1]
    part = (effort - below.effort) / (above.effort - below.effort)
    return below.microseconds + part * (above.microseconds - below.microseconds)


def predicted_ms(part: Part, using: str, matching: int, *, exact: bool) -> float:
    """Predicted milliseconds of one query to a part that has vectors by that name, of which so many may be returned."""
    one = part.body.vectors[using]
    floats = matching * int(one.vectors.shape[1]) / FLOATS_PER_MS
    if exact:
        return floats
    record = one.record if isinstance(one, SegmentVectors) else None
    scanned = matching * scan_us_a_row(record, one.vectors.shape[1]) / 1000 if scans(one.index) else floats
    return min(scanned, WALK_MS) if record is not None and record.calibration else scanned
