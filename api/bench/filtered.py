"""`vss bench filter`: filters of many shapes over one collection, beside raw FAISS and with each plan forced.

settled   what raw FAISS and the collection spend, where nothing is filtered
truths    the true neighbours within each filter
measure   a shape: every query with a filter of its own, which is new, comes again, is hot, then by each plan
          alone
bars      what the figures of a shape are held to
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.bench.dataset import Dataset, K
from api.bench.filter_cases import Case
from api.bench.report import Report, spread
from indexers.raw.library import RawFiltered
from vss.distance import best_of, score_rows, scores, top_k
from vss.filters import Condition
from vss.protocols import probes
from vss.recall import recall_by_score
from vss.schema import DEFAULT_VECTOR
from vss.search.hot import GATHERING
from vss.search.plan import Method
from vss.search.retrieve import search
from vss.storage.segment import Segment
from vss.storage.view import View
from vss.types import Mask, Progress, Rows, Vectors

GRID = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)

TOGETHER = 8
"""Queries asked in one way before the next way's turn: each way has its own things in the processor's caches, and a
filter comes back after others."""

MARGIN = 8
"""Candidates of the truth that are scored again: a matrix product rounds."""

OFTEN = 256
"""Times that a filter is asked for before it is measured as a hot one, or until its rows were gathered."""

UNFILTERED, BITMAP = "raw FAISS, no filter", "raw FAISS, bitmap"
NEW, AGAIN, HOT = "filter new", "filter again", "filter hot"
OWN = "no filter"

RECALL_BAR = 0.95
NEW_BAR, HOT_BAR, FASTEST_BAR, HTTP_BAR = 4.0, 2.0, 1.3, 3.0


class Efforts(NamedTuple):
    """What raw FAISS and the collection spend: the least that reaches the target where nothing is filtered."""

    raw: int
    ours: int


class Drawn(NamedTuple):
    """A shape: the filter of each query, its true neighbours `(q, K)`, and the part of rows that match each."""

    case: Case
    filters: list[Condition]
    true: Rows
    shares: list[float]


def settled(view: View, raw: RawFiltered, data: Dataset, target: float) -> Efforts:
    """The efforts of a run. Where none reaches the target it is the largest."""

    def by_raw(effort: int) -> NDArray[np.int64]:
        raw.effort(effort)
        return raw.rows(data.queries, K)

    def by_us(effort: int) -> NDArray[np.int64]:
        answers = search(view, data.queries, using=DEFAULT_VECTOR, k=K, effort=effort)
        return np.concatenate([_padded(answer.rows) for answer in answers])

    def least(ask: Callable[[int], NDArray[np.int64]]) -> int:
        return next((effort for effort in GRID if data.recall(ask(effort)) >= target), GRID[-1])

    return Efforts(least(by_raw), least(by_us))


def truths(view: View, data: Dataset, filters: Mapping[Case, list[Condition]], progress: Progress) -> dict[Case, Drawn]:
    """The true neighbours within each filter; `progress` counts queries.

    view: one that is not measured: it knows all the filters afterwards
    """
    segment = _segment(view)
    found: dict[Case, list[Rows]] = {case: [] for case in filters}
    shares: dict[Case, list[float]] = {case: [] for case in filters}
    for start in range(0, len(data.queries), TOGETHER):
        queries = data.queries[start : start + TOGETHER]
        scored = scores(queries, data.vectors, data.metric)
        for case, all_of in filters.items():
            for place, where in enumerate(all_of[start : start + TOGETHER]):
                mask = segment.mask(where)
                found[case].append(_best(data, queries[place : place + 1], scored[place], mask))
                shares[case].append(float(mask.mean()))
        progress(len(queries))
    return {case: Drawn(case, all_of, np.concatenate(found[case]), shares[case]) for case, all_of in filters.items()}


def _best(data: Dataset, query: Vectors, scored: NDArray[np.float32], mask: Mask) -> Rows:
    rows = np.flatnonzero(mask)
    near = top_k(scored[rows][None], K + MARGIN).rows
    near = np.where(near >= 0, rows[near] if len(rows) else -1, -1)
    return best_of(near, score_rows(query, data.vectors, near, data.metric), K).rows


@dataclass(slots=True)
class Measured:
    """One case: microseconds of each query, and its recall@K, by way of answering; and the part of rows that match."""

    microseconds: dict[str, list[float]] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)
    http: float | None = None

    def over(self, way: str, base: str = UNFILTERED) -> float:
        """The median time of one way over that of another."""
        return float(np.median(self.microseconds[way]) / np.median(self.microseconds[base]))


def alone(method: Method) -> str:
    """The way of answering by one plan."""
    return f"{method.value} alone"


def measure(view: View, data: Dataset, drawn: Drawn, raw: RawFiltered, efforts: Efforts) -> Measured:
    """All queries of a data set, each with its filter. The view has one segment, and knows none of the filters."""
    raw.effort(efforts.raw)
    segment = _segment(view)
    measured = Measured(shares=drawn.shares)
    answers: dict[str, list[NDArray[np.int64]]] = {}
    methods = methods_of(segment)
    for some in _blocks(len(data.queries)):
        planned = partial(_asked, view, data, drawn, efforts.ours, None)
        ways: dict[str, Callable[[int], NDArray[np.int64]]] = {
            UNFILTERED: lambda row: raw.rows(data.queries[row : row + 1], K)[0],
            OWN: partial(_asked, view, data, None, efforts.ours, None),
            NEW: planned,
            AGAIN: planned,
            HOT: planned,
            **{alone(one): partial(_asked, view, data, drawn, efforts.ours, one) for one in methods},
        }
        for way, ask in ways.items():
            if way == HOT:
                _heated(view, data, drawn, efforts.ours, some)
            _timed(measured, answers, way, ask, some)
        masks = [np.array(segment.mask(drawn.filters[row])) for row in some]
        allowed = partial(_allowed, raw, data, dict(zip(some, masks, strict=True)))
        _timed(measured, answers, BITMAP, allowed, some)
    for way, rows in answers.items():
        if way not in (UNFILTERED, OWN):
            measured.recall[way] = _recall(data, np.concatenate([_padded(one) for one in rows]), drawn.true)
    return measured


def _heated(view: View, data: Dataset, drawn: Drawn, effort: int, some: range) -> None:
    """Ask by these filters until they are hot; at last by one after the other, with the queries of others."""
    part, segment = view.parts[0], _segment(view)

    def ask(row: int, query: int) -> None:
        one = data.queries[query : query + 1]
        search(view, one, using=DEFAULT_VECTOR, k=K, where=drawn.filters[row], effort=effort)

    for row in some:
        for turn in range(OFTEN):
            ask(row, some[turn % len(some)])
            known = segment.known(DEFAULT_VECTOR, drawn.filters[row], part.alive)
            if known is not None and known.wasted is None:
                break
    for thread in threading.enumerate():
        if thread.name == GATHERING:
            thread.join()
    for turn in range(1, len(some)):
        for place, row in enumerate(some):
            ask(row, some[(place + turn) % len(some)])


def methods_of(segment: Segment) -> list[Method]:
    """The plans that the segment has."""
    index = segment.vectors[DEFAULT_VECTOR].index
    return [one for one in Method if one is not Method.PARTITION or (probes(index) and index.cells)]


def _timed(
    measured: Measured,
    answers: dict[str, list[NDArray[np.int64]]],
    way: str,
    ask: Callable[[int], NDArray[np.int64]],
    some: range,
) -> None:
    times, found = measured.microseconds.setdefault(way, []), answers.setdefault(way, [])
    for row in some:
        began = time.perf_counter()
        rows = ask(row)
        times.append((time.perf_counter() - began) * 1e6)
        found.append(rows)


def _asked(
    view: View, data: Dataset, drawn: Drawn | None, effort: int, force: Method | None, row: int
) -> NDArray[np.int64]:
    where = None if drawn is None else drawn.filters[row]
    query = data.queries[row : row + 1]
    return search(view, query, using=DEFAULT_VECTOR, k=K, where=where, effort=effort, force=force)[0].rows


def _allowed(raw: RawFiltered, data: Dataset, masks: Mapping[int, Mask], row: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = raw.rows_allowed(data.queries[row : row + 1], K, masks[row])[0]
    return found


def _blocks(count: int) -> Iterator[range]:
    for start in range(0, count, TOGETHER):
        yield range(start, min(count, start + TOGETHER))


def _recall(data: Dataset, rows: Rows, true: Rows) -> float:
    found = score_rows(data.queries, data.vectors, rows, data.metric)
    return recall_by_score(found, score_rows(data.queries, data.vectors, true, data.metric))


def _segment(view: View) -> Segment:
    body = view.parts[0].body
    assert isinstance(body, Segment)
    return body


def _padded(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.full((1, K), -1, np.int64)
    found[0, : len(rows)] = rows
    return found


class Bar(NamedTuple):
    """What a figure of a shape is held to. value: None where there is nothing to compare with."""

    name: str
    value: float | None
    bar: float
    met: bool


def bars(measured: Measured) -> list[Bar]:
    """The figures that a shape is held to: each on its own, never averaged over shapes."""

    def at_most(name: str, value: float | None, bar: float) -> Bar:
        return Bar(name, None if value is None else round(value, 3), bar, value is None or value <= bar)

    least = min(measured.recall[way] for way in (NEW, AGAIN, HOT))
    fastest = min(
        (way for way in measured.recall if way.endswith(" alone") and measured.recall[way] >= RECALL_BAR),
        key=lambda way: float(np.median(measured.microseconds[way])),
        default=None,
    )
    found = [
        Bar("recall", round(least, 4), RECALL_BAR, least >= RECALL_BAR),
        at_most("new over unfiltered", measured.over(NEW), NEW_BAR),
        at_most("hot over unfiltered", measured.over(HOT), HOT_BAR),
        at_most("again over the fastest plan", measured.over(AGAIN, fastest) if fastest else None, FASTEST_BAR),
    ]
    if measured.http is not None:
        found.append(at_most("HTTP over unfiltered", measured.http, HTTP_BAR))
    return found


def write(report: Report, data: Dataset, case: Case, measured: Measured, efforts: Efforts) -> None:
    """A line for each way of answering one case, and one for its bars."""
    for way, values in measured.microseconds.items():
        report.write(
            case.name,
            way=way,
            data=data.name,
            n=len(data.vectors),
            dim=int(data.vectors.shape[1]),
            queries=len(values),
            share=float(np.median(measured.shares)),
            effort=efforts.raw if way.startswith("raw") else efforts.ours,
            microseconds=spread(values),
            over_unfiltered=round(measured.over(way), 3),
            recall=round(measured.recall[way], 4) if way in measured.recall else None,
        )
    write_bars(report, data, case, measured)


def write_bars(report: Report, data: Dataset, case: Case, measured: Measured) -> None:
    """What the figures of a case are held to, as far as they are known: a later line of a case says more."""
    report.write(
        case.name,
        way="bars",
        data=data.name,
        n=len(data.vectors),
        bars={one.name: {"value": one.value, "bar": one.bar, "met": one.met} for one in bars(measured)},
    )


def cells(cases: Sequence[tuple[Case, Measured]]) -> list[list[str]]:
    """For people: a row for each case, the median microseconds (over unfiltered raw FAISS) and recall of each way, and
    the bars that are missed."""
    rows = []
    for case, measured in cases:
        base = float(np.median(measured.microseconds[UNFILTERED]))
        row = [case.name, f"{np.median(measured.shares):.2%}", f"{base:,.0f}"]
        for way in ways_of(measured):
            middle = float(np.median(measured.microseconds[way]))
            row.append(f"{middle:,.0f} ({middle / base:.1f}x) {measured.recall[way]:.3f}")
        row.append(", ".join(f"{one.name} {one.value}" for one in bars(measured) if not one.met) or "all met")
        rows.append(row)
    return rows


def ways_of(measured: Measured) -> list[str]:
    """The ways of answering under a filter."""
    return list(measured.recall)
