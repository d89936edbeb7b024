"""What an answer says of itself when it is asked to: the same of a search and of a recommendation."""

from __future__ import annotations

from typing import Any

from vss.search.retrieve import Found, PartPlan
from vss.storage.segment import Segment
from vss.storage.view import View


def explained(view: View, found: Found, milliseconds: float) -> dict[str, Any]:
    """For JSON. `search_ms` is what finding the candidates took; `plans` has an entry for each part that was searched.

    segment:       its id; null for the live part
    method, why:   how it was searched, and the reason
    rows:          vectors by that name in the part; matching: those that count and pass the filter
    estimated:     whether that is what columns lead to expect; else they were counted
    selectivity:   matching over rows, 0 to 1
    effort:        what the graph search was given to spend; null for a scan
    gathered:      whether the matching rows were gathered, as their filter is asked for often
    filter_known:  whether an earlier query had found out which vectors match; `filter_ms` is what it took now
    payloads_read: how many payloads had to be read for it now; 0 where columns answer
    milliseconds:  of the part, `filter_ms` among them; queries that were searched together took it together
    """
    return {
        "seq": view.seq,
        "search_ms": milliseconds,
        "plans": [_part(view, done) for done in found.plans],
    }


def _part(view: View, done: PartPlan) -> dict[str, Any]:
    body, plan = view.parts[done.part].body, done.plan
    return {
        "part": done.part,
        "segment": body.record.id if isinstance(body, Segment) else None,
        "method": plan.method.value,
        "why": plan.why,
        "rows": plan.rows,
        "matching": plan.matching,
        "estimated": plan.estimated,
        "selectivity": plan.matching / plan.rows if plan.rows else 0.0,
        "effort": plan.effort,
        "gathered": plan.gathered,
        "filter_known": done.filter_known,
        "filter_ms": done.filter_ms,
        "payloads_read": done.payloads_read,
        "milliseconds": done.milliseconds,
    }
