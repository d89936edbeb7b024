"""What filters that are asked for often are answered by: what queries took is noted, and rows may be gathered.

Once looking elsewhere has cost as much as gathering the rows that a filter lets through, they are gathered. So nothing
is gathered for a filter that comes once, and one that keeps coming costs at most twice what it would have had that been
known from the start (as one rents skis before one buys them: A. Karlin et al., "Competitive snoopy caching",
Algorithmica 1988).

Searches take longer than predicted where matching rows lie far from the queries, so that a walk comes back short, and
where others have driven what they read out of the processor's caches. Then other plans are taken for a while.
"""

from __future__ import annotations

import threading

from vss.filters import Condition
from vss.protocols import probes
from vss.search.plan import Plan, gather_us
from vss.storage.segment import Segment
from vss.storage.selection import Selection
from vss.storage.view import Part

GATHERING = "vss-gather"
"""The name of threads that gather rows."""

NEWEST = 0.25
"""Weight of the last search in what searches of its way took of late."""

FORGOTTEN = 0.01
"""Part of that which is forgotten with each query."""

MOST_OF_ONE, MOST_OF_ALL = 1 / 2, 7 / 8
"""Parts of what a segment may keep of filters that what is gathered may take, for one and for all. More for all, and
filters that are asked for in turn would drive out each other's."""

BYTES_BESIDE = 12
"""Of a gathered row, beside its two bits a component: its number, its factor, and what is added to its score."""

_ALONE = threading.Lock()
"""Rows are gathered for one filter at a time."""


def heat(part: Part, using: str, where: Condition, selection: Selection, plan: Plan, took: float) -> None:
    """Note that a query under a filter took so many microseconds by a plan of a part that has `Plan.in_order`.

    Gathering is done by a thread of its own.
    """
    body, dim = part.body, int(part.body.vectors[using].vectors.shape[1])
    assert isinstance(body, Segment)
    price = gather_us(plan.matching, dim)
    for way in tuple(selection.took):
        selection.took[way] *= 1 - FORGOTTEN
    selection.took[plan.way] = (1 - NEWEST) * selection.took.get(plan.way, 0.0) + NEWEST * took
    assert plan.in_order is not None
    if selection.wasted is None or took <= plan.in_order:
        return
    selection.wasted += took - plan.in_order
    # A selection that nobody keeps, as where payloads were patched, would be gathered for nobody.
    if selection.wasted < price or body.known(using, where, part.alive) is not selection or not _ALONE.acquire(False):
        return
    if not _has_room(body, plan.matching * (-(-dim // 4) + BYTES_BESIDE)):
        _ALONE.release()
        selection.wasted = 0.0  # there may be some when it has come as often again
        return
    selection.wasted = None
    # No daemon: the kernel must not come back from its work to an interpreter that ends.
    threading.Thread(target=_gather, args=(part, body, using, where, selection), name=GATHERING).start()


def _has_room(body: Segment, nbytes: int) -> bool:
    most = body.selection_bytes
    return nbytes <= MOST_OF_ONE * most and body.gathered_bytes + nbytes <= MOST_OF_ALL * most


def _gather(part: Part, body: Segment, using: str, where: Condition, selection: Selection) -> None:
    try:
        index = body.vectors[using].index
        assert probes(index)
        selection.gathered = index.gather(selection.rows)
        if body.known(using, where, part.alive) is selection:
            body.keep(using, where, part.alive, selection)  # it takes more now of what the cache may hold
    finally:
        _ALONE.release()
