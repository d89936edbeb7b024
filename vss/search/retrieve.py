"""One leg: the plans of a dense query carried out on every part, and the best of all parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vss.distance import exact_search
from vss.filters import Condition
from vss.protocols import Deadline, probes, scans
from vss.search.coalesce import Coalescing
from vss.search.hot import heat
from vss.search.plan import LISTED_SHARE, Method, Plan, plan_part, predicted_ms
from vss.search.tested import search_tested
from vss.storage.bounds import told
from vss.storage.segment import Segment
from vss.storage.segment_vectors import SegmentVectors
from vss.storage.selection import Selection
from vss.storage.view import Part, View
from vss.types import Hits, Metric, Rows, Scores, Vectors

LOOP_MS = 1.0
"""Predicted milliseconds beyond which a search leaves the event loop for a thread."""

NO_DEADLINE = Deadline()

LATE = "deadline"
"""The reason of an answer for which not everything was looked at."""

MAX_PLANS = 64
"""Kinds of searches without a filter whose plans a view keeps."""

MAX_PLANS_OF_FILTER = 8
"""Kinds of searches whose plans are kept for a filter."""
MAX_TOGETHER = 16
"""Queries that are searched together at most."""

USUAL_K = 100
"""Results that they may ask for at most."""

FILTER_MS_PER_LIVE_ROW = 0.003
FILTER_MS_PER_ROW = 0.0001
FILTER_MS, FILTER_MS_PER_TOLD_ROW = 0.1, 0.000001
"""Of finding out which rows pass: a live row's payload is parsed, and of a segment some are, where its columns do not
tell; for the prediction only."""


class PartPlan(NamedTuple):
    """What one part did.

    part:          its number in the view
    filter_known:  whether it was known which of its vectors pass, from an earlier query
    filter_ms:     of finding that out; part of `milliseconds`
    payloads_read: for finding it out now
    """

    part: int
    plan: Plan
    filter_known: bool
    filter_ms: float
    payloads_read: int
    milliseconds: float


def part_plan(part: int, plan: Plan, chosen: tuple[Selection, bool], started: float, filtered: float) -> PartPlan:
    """What a part did that started then, knew then which vectors pass (`Part.select`), and has finished now
    (`time.perf_counter`)."""
    selection, known = chosen
    return PartPlan(
        part=part,
        plan=plan,
        filter_known=known,
        filter_ms=(filtered - started) * 1000,
        payloads_read=0 if known else selection.read,
        milliseconds=(time.perf_counter() - started) * 1000,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one query: columnar candidates, best first.

    parts:    `(n,)` int64, indexes into `View.parts`
    rows:     `(n,)` int64, rows of those parts
    scores:   `(n,)` float32, higher is better (Euclid and Manhattan: minus the distance)
    complete: True when there are as many as asked for
    reason:   why there are fewer
    """

    parts: Rows
    rows: Rows
    scores: Scores
    complete: bool
    reason: str | None
    plans: tuple[PartPlan, ...]

    def __len__(self) -> int:
        return len(self.rows)


_TOGETHER: Coalescing[Found] = Coalescing()


def search(
    view: View,
    queries: Vectors,
    *,
    using: str,
    k: int,
    where: Condition | None = None,
    exact: bool = False,
    effort: int | None = None,
    recall: float | None = None,
    force: Method | None = None,
    deadline: Deadline = NO_DEADLINE,
) -> list[Found]:
    """The k best points for each of `(q, dim)` queries that passed `vss.vectors.as_vectors`.

    effort: overrides the calibration; recall: picks the effort from it; force: how segments are searched;
    deadline: once it has passed, what was found so far is the answer, and says so.
    Raises VssError (INVALID) for an unknown name.
    """
    metric = view.schema.vector(using).metric
    asked = (using, k, exact, effort, recall, force)
    # Without a filter whoever asks for as much has the same plans, as long as nothing is written.
    planned: Sequence[_Planned] | None = view.plans.get(asked) if where is None else None
    known = planned is not None
    if planned is None:
        new = queries if len(queries) == 1 and not (exact or force) else None
        planned = _planned(
            view, using, where, new, deadline, k=k, exact=exact, effort=effort, recall=recall, force=force
        )
        if where is None and len(view.plans) < MAX_PLANS:
            view.plans[asked] = planned
    answers: list[tuple[int, Hits]] = []
    plans = []
    late = False
    for one in planned:
        if answers and one.hits is None and deadline.passed():
            late = True
            break
        started = time.perf_counter()
        part = view.parts[one.number]
        hits = one.hits
        if hits is None:
            hits = _carry_out(
                part, one.plan, queries, using, k, metric, one.selection, exact=exact, stop=deadline.passed
            )
        # What looks at every vector may have been stopped on its way.
        late = one.plan.method is Method.SCAN and deadline.passed()
        answers.append((one.number, hits))
        spent = 0.0 if known else one.seconds
        plans.append(part_plan(one.number, one.plan, (one.selection, known or one.known), started - spent, started))
        if where is not None and one.plan.in_order is not None:
            heat(part, using, where, one.selection, one.plan, (time.perf_counter() - started) / len(queries) * 1e6)
    available = sum(one.selection.count for one in planned)
    return merged(answers, len(queries), k, available, tuple(plans), late=late)


class _Planned(NamedTuple):
    """What a part is to do: which of its vectors may be returned, whether that was known, and the seconds it took to
    find out. `hits` where that has answered already."""

    number: int
    selection: Selection
    known: bool
    seconds: float
    plan: Plan
    hits: Hits | None = None


def _planned(
    view: View, using: str, where: Condition | None, query: Vectors | None, deadline: Deadline, **asked: Any
) -> list[_Planned]:
    """A plan for each part that has something to return; `asked` as in `plan_part`.

    query: one that is answered at once where its filter is new (`vss.search.tested`), before the deadline
    """
    planned = []
    for number, part in enumerate(view.parts):
        if not len(part.body):
            continue
        started = time.perf_counter()
        tested = None
        if where is not None and query is not None and not deadline.passed():
            tested = search_tested(part, using, where, query, asked["k"], asked["effort"], asked["recall"])
            if tested is not None and tested.hits is not None:
                seconds = time.perf_counter() - started
                found = Selection(None, tested.hits.rows.shape[1])
                planned.append(_Planned(number, found, False, seconds, tested.plan, tested.hits))
                continue
        selection, known = part.select(using, where)
        if tested is not None:
            selection.took[Method.GRAPH] = tested.short_us
        seconds = time.perf_counter() - started
        if selection.count:
            planned.append(_Planned(number, selection, known, seconds, _plan(part, using, selection, asked)))
    return planned


def _plan(part: Part, using: str, selection: Selection, asked: dict[str, Any]) -> Plan:
    """The plan of a part, kept beside the selection for as long as what it depends on stays as it is."""
    took = [int(one).bit_length() for one in tuple(selection.took.values())]  # planned anew where one has doubled
    name = (*asked.values(), selection.lists, selection.gathered is None, *took)
    plan: Plan | None = selection.plans.get(name)
    if plan is None:
        plan = plan_part(part, using, selection, **asked)
        if len(selection.plans) >= MAX_PLANS_OF_FILTER:
            selection.plans.clear()
        selection.plans[name] = plan
    return plan


async def search_async(
    view: View,
    queries: Vectors,
    *,
    using: str,
    k: int,
    where: Condition | None = None,
    exact: bool = False,
    effort: int | None = None,
    recall: float | None = None,
    deadline: Deadline = NO_DEADLINE,
) -> list[Found]:
    """`search`, away from the event loop when it would hold it for more than `LOOP_MS`.

    Single queries without a filter that come to this in one turn of the loop are searched together, as long as they
    ask for no more than predictions are made for: what takes long has the loop for itself.
    """
    work = partial(
        search,
        view,
        using=using,
        k=k,
        where=where,
        exact=exact,
        effort=effort,
        recall=recall,
        deadline=deadline,
    )
    cost = cost_ms(view, using, where, exact=exact)
    if len(queries) * cost > LOOP_MS:
        return await asyncio.to_thread(work, queries)
    usual = k <= USUAL_K and effort is None and recall is None
    if len(queries) != 1 or where is not None or deadline.at is not None or not usual:
        return work(queries)
    most = MAX_TOGETHER if MAX_TOGETHER * cost <= LOOP_MS else int(LOOP_MS / cost)
    return [await _TOGETHER.answer((view, using, k, exact), queries, most, work)]


def cost_ms(view: View, using: str, where: Condition | None, *, exact: bool) -> float:
    """Predicted milliseconds of one query: what takes more than one leaves the event loop."""
    if where is not None:
        return _cost_ms(view, using, where, exact=exact)
    predicted = view.predicted_ms.get((using, exact))
    if predicted is None:
        predicted = view.predicted_ms[using, exact] = _cost_ms(view, using, None, exact=exact)
    return predicted


def _cost_ms(view: View, using: str, where: Condition | None, *, exact: bool) -> float:
    total = 0.0
    for part in view.parts:
        if using not in part.body.vectors:
            continue
        known = part.known(using, where)
        if known is None and where is not None:
            total += _filter_ms(part, where)
        total += predicted_ms(part, using, known, exact=exact)
    return total


def _filter_ms(part: Part, where: Condition) -> float:
    """Predicted milliseconds of finding out which rows of a part pass."""
    body = part.body
    if not isinstance(body, Segment):
        return len(body) * FILTER_MS_PER_LIVE_ROW
    if told(where, body.answers):
        return FILTER_MS + len(body) * FILTER_MS_PER_TOLD_ROW
    return len(body) * FILTER_MS_PER_ROW


def _carry_out(
    part: Part,
    plan: Plan,
    queries: Vectors,
    using: str,
    k: int,
    metric: Metric,
    selection: Selection,
    *,
    exact: bool,
    stop: Callable[[], bool],
) -> Hits:
    one = part.body.vectors[using]
    if plan.gathered and selection.gathered is not None:
        hits = selection.gathered.search(queries, k, plan.effort)
    elif plan.method is Method.SCAN:
        if scans(one.index) and not exact:
            if probes(one.index) and not selection.whole and plan.matching < LISTED_SHARE * plan.rows:
                selection.listed_by(one.index.listed)
            hits = one.index.scan(queries, k, selection.among)
        else:
            hits = exact_search(queries, one.vectors, k, metric, selection.mask, stop)
    elif plan.method is Method.PARTITION:
        assert probes(one.index)
        assert plan.effort is not None
        if selection.lists or plan.matching < LISTED_SHARE * plan.rows:
            hits = one.index.probe(queries, k, plan.effort, selection.listed_by(one.index.listed))
        else:
            allowed = selection.mask
            assert allowed is not None
            hits = one.index.probe(queries, k, plan.effort, allowed)
    else:
        allowed = selection.mask
        if allowed is not None and probes(one.index):
            hits = one.index.search(
                queries, k, allow=allowed, effort=plan.effort, looked=plan.looked, counted=selection.count
            )
        else:
            hits = one.index.search(queries, k, allow=allowed, effort=plan.effort)
        wanted = min(k, plan.matching)
        # What was not found stands at the end.
        short = np.flatnonzero(hits.rows[:, wanted - 1] < 0) if wanted else ()
        if len(short):
            # A graph can lose its way under a filter; a query never gets fewer than match because of it.
            found = exact_search(queries[short], one.vectors, k, metric, allowed)
            rows, scores = hits.rows.copy(), hits.scores.copy()
            rows[short], scores[short] = found.rows, found.scores
            hits = Hits(rows, scores)
    if isinstance(one, SegmentVectors) and one.rows is not None:
        hits = Hits(np.where(hits.rows >= 0, one.rows[hits.rows], -1), hits.scores)
    return hits


def merged(
    answers: Sequence[tuple[int, Hits]],
    queries: int,
    k: int,
    available: int,
    plans: tuple[PartPlan, ...],
    *,
    late: bool = False,
) -> list[Found]:
    """The best k of the (part, hits) answers to each query; `available` is how many points could have been returned.

    late: not all of them were looked at
    """
    reason = LATE if late else None if available >= k else f"only {available} match"
    return [Found(*best, reason is None, reason, plans) for best in _best(answers, queries, k)]


_Best = tuple[Rows, Rows, Scores]
"""Parts, rows and scores, as `Found` has them."""


def _best(answers: Sequence[tuple[int, Hits]], queries: int, k: int) -> list[_Best]:
    if queries == 1 or len(answers) < 2 or not k:
        return [_best_of(answers, query, k) for query in range(queries)]
    # All at once, which takes a third of the time.
    scores = np.concatenate([hits.scores for _, hits in answers], axis=1)
    rows = np.concatenate([hits.rows for _, hits in answers], axis=1)
    if (rows < 0).any():
        return [_best_of(answers, query, k) for query in range(queries)]
    parts = np.array([number for number, _ in answers], np.int64)
    parts = parts.repeat([hits.rows.shape[1] for _, hits in answers])
    order = (-scores).argsort(axis=1, kind="stable")[:, :k]
    places = order + np.arange(0, scores.size, scores.shape[1])[:, None]
    return list(zip(parts.take(order), rows.take(places), scores.take(places), strict=True))


def _best_of(answers: Sequence[tuple[int, Hits]], query: int, k: int) -> _Best:
    if not answers:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0, np.float32)
    if len(answers) == 1:
        number, hits = answers[0]
        rows, scores = hits.rows[query], hits.scores[query]
        count = len(rows) if len(rows) and rows[-1] >= 0 else int(np.count_nonzero(rows >= 0))
        return np.full(count, number, np.int64), rows[:count], scores[:count]
    scores = np.concatenate([hits.scores[query] for _, hits in answers])
    rows = np.concatenate([hits.rows[query] for _, hits in answers])
    parts = np.array([number for number, hits in answers for _ in range(hits.rows.shape[1])], np.int64)
    # Stable: among equals the part that comes first, and in it what its index put first.
    order = (-scores).argsort(kind="stable")
    order = order[rows[order] >= 0][:k]
    return parts[order], rows[order], scores[order]
