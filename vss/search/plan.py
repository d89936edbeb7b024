"""How each part of a view answers a query: by scanning the rows that match or the nearest of them, or by its graph.

The graph alone is wrong under a narrow filter: measured on 63,666 x 384 real vectors, FAISS HNSW with an allow-bitmap
at the effort that gives recall .95 unfiltered falls to .45 when 10% of the rows match and to .07 when 1% do. So the
scan is the rule and the graph is for wide filters on large segments.

A `vss.protocols.Prober` keeps its recall under a filter by walking wider, scans by its codes, and need not scan all
that match: only those in the cells nearest to the query. Which is cheapest follows from what a walk and a scan took on
this machine when the segment was built.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from enum import StrEnum
from operator import attrgetter, itemgetter
from typing import NamedTuple

from vss.protocols import Index, Prober, probes, scans
from vss.recall import CurvePoint, effort_for
from vss.storage.manifest import VectorsRecord
from vss.storage.segment import Segment
from vss.storage.segment_vectors import SegmentVectors
from vss.storage.selection import LISTED_SHARE as LISTED_BELOW
from vss.storage.selection import Selection
from vss.storage.view import Part

DEFAULT_RECALL = 0.99
"""The recall@10 on the calibration that a request gets when it names neither a recall nor an effort.

The calibration asks for rows of the index itself, which flatters a graph by a point or more (`vss.recall.calibrate`).
"""

HELD_IN = 5
"""Errors of a graph with queries that are not in the index, over those with its own rows: 3.6 to 8 with 1,000,000 x
128, 4.5 with 62,666 x 384. Cells tell no difference between the two, and may make as many errors as the graph."""

SCAN_SHARE = 0.25
"""Share of matching rows below which they are scanned, however many they are."""

WIDE_SHARE = 0.8
"""Share of matching rows (a few tombstones, say) from which on the graph is walked, however few they are."""

SCAN_ROWS = 20_000
"""Matching rows up to which they are scanned when their share lies between the two."""

READ_NS, LOOKED_UP_NS = 1.5, 5.0
"""Of seeing whether a listed row lies in a cell that is looked through, and whether a cell's row matches."""

LISTING_NS = 0.15
"""Of a row of the segment, where a mask is turned into the list of what matches."""

LISTED_SHARE = 1 / 16
"""Share of matching rows from which on a mask is not turned into a list for cells to be looked through."""

CELL = 0.4
"""Of a row's scan, the time that a cell takes: they lie in a row, and are put in order."""

PROBE_US = 15.0
"""What else looking through cells takes."""

PROBE_IN_ORDER_US = 40.0
"""The same of gathered rows: so little is left to do that it counts what the caches lack of cells and blocks."""

RIM_ROWS = 32
"""Rows of other cells that are looked at with those of a cell, where rows are gathered: sketches stand in blocks."""

IN_ORDER_US, IN_ORDER_NS, IN_ORDER_NS_PER_COMPONENT = 15.0, 1.5, 0.011
"""Of a scan by sketches, of each row in it, and of each of their components. (37 us for 6,266 x 128, 339 for 100,000 x
128; 60 for 6,266 x 384, 204 for 31,000 x 384.)"""

SURPRISING = 3.0
"""Times what was predicted, from which on it counts what searches of a way took of late under a filter. (Less than that
is what caches do to searches of all ways.)"""

GATHER_NS, GATHER_NS_PER_COMPONENT = 60.0, 1.2
"""Of gathering a row (see `vss.protocols.Prober.gather`)."""

BEST = 10
"""Results that a query is taken to ask for; for the prediction only."""

FLOATS_PER_MS = 1_500_000
"""Components that one thread scores exactly in a millisecond; for the prediction only."""


_cost_of, _effort_of = itemgetter(1), attrgetter("effort")


class Method(StrEnum):
    """What a part does."""

    SCAN = "scan"
    GRAPH = "graph"
    PARTITION = "partition"


class Plan(NamedTuple):
    """The plan for one part.

    rows:     how many vectors by that name the part has
    matching: those that count and pass the filter
    effort:   what the graph search spends, or how many matching rows are looked at at least; None for a scan
    reason:   in words; beside `costs` it is that one of them is the least
    looked:   how many matching rows are looked at in the nearest cells where a graph search comes back short; None:
              all of them
    in_order: predicted microseconds of looking at matching rows, were they gathered; None where they cannot be
    gathered: they were, and are looked at so
    costs:    predicted microseconds of what was weighed against each other
    estimated: `matching` was not counted
    """

    method: Method
    rows: int
    matching: int
    effort: int | None
    reason: str
    looked: int | None = None
    in_order: float | None = None
    gathered: bool = False
    costs: tuple[tuple[Method, float], ...] = ()
    estimated: bool = False

    @property
    def why(self) -> str:
        """In words, for `explain`."""
        if not self.costs:
            return self.reason
        said = ", ".join(f"{method.value} {cost:,.0f} us" for method, cost in self.costs)
        return f"{self.matching / self.rows:.2%} match: {said}"

    @property
    def way(self) -> str:
        """What distinguishes searches by how long they take."""
        return way_of(self.method, self.gathered)


def way_of(method: Method, gathered: bool) -> str:
    """See `Plan.way`."""
    return f"gathered {method}" if gathered else method


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
    spent = walk_effort(curve, k, effort, recall)
    if spent is None:
        best = max(point.recall for point in curve)
        return scan(f"recall {recall:g} was asked for and the graph measured {best:g} at best")
    index = body.vectors[using].index
    aimed = recall if effort is None else recall_of(curve, effort)
    aimed = DEFAULT_RECALL if aimed is None else aimed
    looked = looked_at(index, 1 - HELD_IN * (1 - aimed), matching, k)
    if force is Method.PARTITION and (looked is None or selection.whole):
        return scan("the segment has no cells for it")
    efforts = {Method.SCAN: None, Method.GRAPH: spent, Method.PARTITION: looked}
    if force is not None:
        return Plan(force, rows, matching, efforts[force], "it was asked for", looked)
    if selection.whole:
        return Plan(Method.GRAPH, rows, matching, spent, "no filter")
    share = matching / rows
    if probes(index):
        row = scan_us_a_row(vectors, vectors.index.dim)
        if matching * row < PROBE_US:
            return scan(f"{matching} rows match")
        listing = 0 if selection.lists else rows * LISTING_NS / 1000
        walked = walk_us(curve, index.widened(spent, k, share))
        costs = [(Method.SCAN, listing + matching * row), (Method.GRAPH, walked)]
        if looked is not None:
            probed = probe_us(index.cells, row, looked, selection, share)
            costs.append((Method.PARTITION, probed + (listing if share < LISTED_SHARE else 0)))
        ordered = in_order_us(index.cells, row, looked, matching, vectors.index.dim)
        ready = selection.gathered is not None
        if ready:
            costs = [(one, ordered.get(one, cost)) for one, cost in costs]
        if selection.took:
            costs = [(one, _learnt(cost, selection, way_of(one, ready and one in ordered))) for one, cost in costs]
        method, _ = min(costs, key=_cost_of)
        in_order = min(ordered.values()) if index.gathers(matching) else None
        return Plan(
            method,
            rows,
            matching,
            efforts[method],
            "it costs least",
            looked,
            in_order,
            ready and method in ordered,
            tuple(costs),
        )
    if share < SCAN_SHARE or (share < WIDE_SHARE and matching <= SCAN_ROWS):
        return scan(f"{matching} rows match, scanning them is exact and cheap")
    return Plan(Method.GRAPH, rows, matching, spent, f"{share:.0%} of the rows match")


def walk_effort(curve: Sequence[CurvePoint], k: int, effort: int | None, recall: float | None) -> int | None:
    """What a graph search spends without a filter; None where no effort had that recall. `effort` overrides it."""
    spent = effort or effort_for(curve, DEFAULT_RECALL if recall is None else recall)
    if spent is None and recall is not None:
        return None
    # The curve was measured for the best ten; more of them need a wider walk.
    return effort or max(spent or curve[-1].effort, 2 * k)


def looked_at(index: Index | Prober, recall: float, matching: int, k: int) -> int | None:
    """How many matching rows an index looks at in its cells; None where it has none, or that would be all of them."""
    if not probes(index) or not index.cells:
        return None
    looked = index.looked_at(recall, matching, k)
    return looked if looked is not None and looked < matching else None


def probe_us(cells: int, row: float, looked: int, selection: Selection, share: float) -> float:
    """Microseconds of looking at so many rows in the nearest cells; `row` of scanning one."""
    finding = selection.count * READ_NS if selection.lists or share < LISTED_SHARE else looked / share * LOOKED_UP_NS
    return PROBE_US + cells * CELL * row + finding / 1000 + looked * row


def recall_of(curve: Sequence[CurvePoint], effort: int) -> float:
    """The recall that an effort has on a curve: that of the next smaller one that was measured."""
    at = bisect_right(curve, effort, key=_effort_of)
    return max([point.recall for point in curve[:at]], default=curve[0].recall)


def scan_us_a_row(vectors: VectorsRecord | None, dim: int) -> float:
    """Microseconds of one scattered row of a scan by a `Scanner`; where no build measured it, by its dimension."""
    return ((vectors and vectors.scan_ns) or 5 + 0.06 * dim) / 1000


def _learnt(cost: float, selection: Selection, way: str) -> float:
    """What searches of a way took of late, where that is far from what they were predicted to cost."""
    took = selection.took.get(way, 0.0)
    return took if took > SURPRISING * cost else cost


def scan_in_order_us(rows: float, dim: int) -> float:
    """Microseconds of a scan of so many rows whose sketches stand side by side."""
    return IN_ORDER_US + rows * (IN_ORDER_NS + IN_ORDER_NS_PER_COMPONENT * dim) / 1000


def in_order_us(cells: int, row: float, looked: int | None, matching: int, dim: int) -> dict[Method, float]:
    """Microseconds of each way of looking at gathered rows: at all, and at so many in the nearest cells; `row` of
    scanning a scattered one."""
    costs = {Method.SCAN: scan_in_order_us(matching, dim)}
    if looked is not None:
        rims = RIM_ROWS * cells * looked / matching
        read = scan_in_order_us(min(matching, looked + rims), dim)
        costs[Method.PARTITION] = PROBE_IN_ORDER_US + cells * CELL * row + read
    return costs


def gather_us(rows: int, dim: int) -> float:
    """Microseconds of gathering so many rows."""
    return rows * (GATHER_NS + GATHER_NS_PER_COMPONENT * dim) / 1000


def walk_us(curve: Sequence[CurvePoint], effort: float) -> float:
    """Microseconds of a search with that effort: between measured ones in proportion, beyond them as the last one's."""
    last = curve[-1]
    if effort > last.effort:
        return last.microseconds * effort / last.effort
    at = bisect_left(curve, effort, key=_effort_of)
    above = curve[at]
    if at == 0 or above.effort == effort:
        return above.microseconds
    below = curve[at - 1]
    part = (effort - below.effort) / (above.effort - below.effort)
    return below.microseconds + part * (above.microseconds - below.microseconds)


def predicted_ms(part: Part, using: str, known: Selection | None, *, exact: bool) -> float:
    """Predicted milliseconds of one query to a part that has vectors by that name.

    known: those that may be returned; None while nobody knows
    """
    one = part.body.vectors[using]
    rows, dim = len(one.vectors), int(one.vectors.shape[1])
    matching = rows if known is None else known.count
    if exact or not scans(one.index):
        scanned = 1000 * matching * dim / FLOATS_PER_MS
    elif known is not None and known.gathered is not None and isinstance(one, SegmentVectors) and probes(one.index):
        looked = looked_at(one.index, 1 - HELD_IN * (1 - DEFAULT_RECALL), matching, BEST)
        costs = in_order_us(one.index.cells, scan_us_a_row(one.record, dim), looked, matching, dim)
        scanned = min([max(cost, known.took.get(way_of(way, True), 0.0)) for way, cost in costs.items()])
    elif isinstance(one, SegmentVectors) and (one.curve or matching < LISTED_BELOW * rows):
        scanned = matching * scan_us_a_row(one.record, dim)
    else:
        scanned = scan_in_order_us(rows, dim)
    if exact or not isinstance(one, SegmentVectors) or not one.curve or not matching:
        return scanned / 1000
    effort: float = effort_for(one.curve, DEFAULT_RECALL) or one.curve[-1].effort
    if probes(one.index):
        effort = one.index.widened(int(effort), BEST, matching / rows)
    walked = walk_us(one.curve, effort)
    if known is not None:
        walked = max(walked, known.took.get(Method.GRAPH, 0.0))
    return min(scanned, walked) / 1000
