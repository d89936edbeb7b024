"""A filter that is new: a walk as wide as the filter asks, and of what it meets those rows are kept that pass.

Finding out which rows of a segment pass takes a look at all of them, and new memory for what was found; a walk meets
some hundreds. Where the walk comes back short, as it does when what passes lies far from the query, it was in vain, and
the rows are found out. From the third time on they are found out at once: a filter that keeps coming is answered faster
by what is known of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from vss.filters import Condition, name_of
from vss.protocols import probes
from vss.search.plan import SURPRISING, Method, Plan, plan_part, walk_effort
from vss.storage.segment import Segment
from vss.storage.segment_vectors import SegmentVectors
from vss.storage.selection import Selection
from vss.storage.view import Part
from vss.types import Hits, Vectors

TIMES = 2
"""How often a filter is answered so."""

LEAST_ROWS = 200_000
"""Rows of a segment from which on it is. (A filter that lets half of 63,000 through is found out in 100 us, one of
1,000,000 in 300 to 500.)"""

LEAST_SHARE = 1 / 64
"""Part of the rows that a filter is expected to let through below which it is not."""

STEPS = 8
"""Costs are weighed for so many shares between one and its half."""

MAX_WALKS = 256
"""Kinds of such searches of which is remembered what was weighed."""

TESTING_US = 25.0
"""What testing the rows of a walk takes."""

FINDING_US, FINDING_NS = 60.0, 0.4
"""What finding out all that pass takes, and of each row of the segment."""

KEPT = 0.5
"""This part of what a walk without a filter would be as wide as has to pass."""


class Walk(NamedTuple):
    """width: of a walk that meets enough rows; least: how many of them have to pass; short_us: what a walk counts as
    having taken when it came back short, so that another way is taken instead of the next one."""

    width: int
    least: int
    short_us: float


UNKNOWN = Walk(0, 0, 0.0)
"""In place of one that was not weighed yet."""


class Tested(NamedTuple):
    """hits: None where the walk came back short."""

    hits: Hits | None
    plan: Plan
    short_us: float


def search_tested(
    part: Part, using: str, where: Condition, query: Vectors, k: int, effort: int | None, recall: float | None
) -> Tested | None:
    """The k best of a part that pass for a `(1, dim)` query; None where that is not the way. (Several queries share
    what it costs to find out all that pass, and each would have a walk of its own.)"""
    body = part.body
    if not isinstance(body, Segment) or part.patches or len(body) < LEAST_ROWS or using not in body.vectors:
        return None
    one = body.vectors[using]
    if not one.curve or one.damage or not probes(one.index) or body.known(using, where, part.alive) is not None:
        return None
    if body.times_asked(f"{using} {name_of(where)}") >= TIMES:
        return None
    test = body.test(where)
    if test is None or test.share < LEAST_SHARE:
        return None
    step = math.floor(STEPS * math.log2(test.share))
    asked = using, k, effort, recall, step
    walk: Walk | None = body.walks.get(asked, UNKNOWN)
    if walk is UNKNOWN:
        walk = _weighed(part, using, one, 2 ** (step / STEPS), k, effort, recall)
        if len(body.walks) >= MAX_WALKS:
            body.walks.clear()
        body.walks[asked] = walk
    tells = None if walk is None else test.made()
    if walk is None or tells is None:
        return None
    rows = len(one.vectors)
    reason = "new to the segment: the rows that a walk meets are tested"
    plan = Plan(Method.GRAPH, rows, round(test.share * rows), walk.width, reason, estimated=True)
    met = one.index.search(query, walk.width, effort=walk.width)
    found = met.rows[0] if met.rows[0, -1] >= 0 else met.rows[0][met.rows[0] >= 0]
    if one.rows is not None:
        found = one.rows.take(found)
    passing = tells(found) if part.alive is None else tells(found) & part.alive.take(found)
    (best,) = passing.nonzero()
    if len(best) < walk.least:
        return Tested(None, plan, walk.short_us)
    return Tested(Hits(found[None, best[:k]], met.scores[:, best[:k]]), plan, walk.short_us)


def _weighed(
    part: Part, using: str, one: SegmentVectors, share: float, k: int, effort: int | None, recall: float | None
) -> Walk | None:
    """The walk for a filter that lets this share through; None where finding out all that pass costs less."""
    spent, rows = walk_effort(one.curve, k, effort, recall), len(one.vectors)
    if spent is None or not probes(one.index):
        return None
    expected = Selection.expected(max(1, round(share * rows)), rows)
    costs = dict(plan_part(part, using, expected, k=k, effort=effort, recall=recall).costs)
    if not costs or costs[Method.GRAPH] + TESTING_US > min(costs.values()) + FINDING_US + rows * FINDING_NS / 1000:
        return None
    width, least = math.ceil(one.index.widened(spent, k, share)), max(k, math.ceil(KEPT * spent))
    return Walk(width, least, SURPRISING * costs[Method.GRAPH] + costs[Method.SCAN])
