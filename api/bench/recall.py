"""`vss bench recall`: recall and queries per second of indexes that take turns in the same run.

settle    which efforts of an index are worth timing, and the recall of each
measure   times all efforts of all indexes, round by round: batches, and queries one at a time
Curve     what came out for one index; `rate_at` interpolates the rate at a recall between measured efforts
write     the JSON lines
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, Literal, NamedTuple

import numpy as np

from api.bench.built import Built
from api.bench.dataset import Dataset, K
from api.bench.report import Report, ratios, rounds, spread
from vss.types import Progress, Vectors

BATCH = 64

ENOUGH = 0.999
"""Efforts above the least one that reaches this recall are not timed."""

LITTLE = 0.7
"""Of efforts that do not reach this recall only the largest is timed."""

BASELINES = ("raw-hnswlib", "raw-faiss-hnsw")

_LEAST_BATCHES = 2
"""Of a timed pass for each thread, however slow the index is."""

Asked = Literal["batch", "single"]
ASKED: dict[Asked, int] = {"batch": BATCH, "single": 1}
"""How queries are asked, and how many at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to measure.

    threads: callers at once, each with batches of its own; a search itself uses one thread
    seconds: of one timed pass, about
    target:  recall at which rates are compared
    """

    repetitions: int = 5
    threads: int = 1
    seconds: float = 0.3
    target: float = 0.95


class Settled(NamedTuple):
    """An effort and the recall@10 that it reaches over all queries."""

    effort: int
    recall: float


@dataclass(slots=True)
class Curve:
    """One index: its efforts with their recall, and queries per second of each: `rates[asked][place][round]`."""

    built: Built
    settled: list[Settled]
    rates: dict[Asked, list[list[float]]] = field(default_factory=dict)

    def reach(self, recall: float) -> Literal["interpolated", "least effort", "not reached"]:
        """How `rate_at` comes to its values; at the least effort they are of a higher recall."""
        if all(one.recall < recall for one in self.settled):
            return "not reached"
        return "least effort" if self.settled[0].recall >= recall else "interpolated"

    def rate_at(self, recall: float, asked: Asked) -> list[float]:
        """Queries per second at a recall, for each round; empty where no effort reaches it.

        Between the two efforts around it the logarithm of the rate is taken to be linear in the recall.
        """
        place = next((at for at, one in enumerate(self.settled) if one.recall >= recall), None)
        if place is None:
            return []
        above = self.rates[asked][place]
        if place == 0:
            return list(above)
        below = self.rates[asked][place - 1]
        low, high = self.settled[place - 1].recall, self.settled[place].recall
        part = (recall - low) / (high - low)
        return [
            math.exp((1 - part) * math.log(slow) + part * math.log(fast))
            for slow, fast in zip(below, above, strict=True)
        ]


def settle(built: Built, data: Dataset, target: float) -> list[Settled]:
    """The efforts to time, rising, with their recall: from `LITTLE`, or just below the target, to `ENOUGH`."""

    def recall(effort: int) -> Settled:
        built.searcher.effort(effort)
        found = [
            built.searcher.rows(data.queries[start : start + BATCH], K) for start in range(0, len(data.queries), BATCH)
        ]
        return Settled(effort, data.recall(np.concatenate(found).astype(np.int64)))

    settled: list[Settled] = []
    for effort in built.efforts:
        settled.append(recall(effort))
        if settled[-1].recall >= ENOUGH:
            break
    while settled[0].recall >= target and settled[0].effort > 1:
        lower = recall(max(1, settled[0].effort * 3 // 4))
        if lower.recall >= settled[0].recall:  # a search spends no less than this
            break
        settled.insert(0, lower)
    while len(settled) > 1 and settled[1].recall < LITTLE:
        settled.pop(0)
    return settled


def measure(curves: Sequence[Curve], data: Dataset, plan: Plan, progress: Progress) -> None:
    """Fill in the rates of all curves; in a round every effort of every index has its turn, low efforts first.

    progress: counts timed passes, of which there are `passes(curves, plan)`
    """
    with ThreadPoolExecutor(plan.threads) as pool:
        cases: dict[tuple[int, int, Asked], Callable[[], float]] = {}
        longest = max((len(curve.settled) for curve in curves), default=0)
        for place in range(longest):
            for number, curve in enumerate(curves):
                if place < len(curve.settled):
                    for asked, size in ASKED.items():
                        run = _Pass(curve.built, curve.settled[place].effort, data.queries, size, plan, pool)
                        cases[number, place, asked] = run.rate
        rates = rounds(cases, plan.repetitions, progress)
    for number, curve in enumerate(curves):
        curve.rates = {asked: [rates[number, place, asked] for place in range(len(curve.settled))] for asked in ASKED}


def passes(curves: Sequence[Curve], plan: Plan) -> int:
    """How many timed passes `measure` makes."""
    return plan.repetitions * len(ASKED) * sum(len(curve.settled) for curve in curves)


class _Pass:
    """One effort of one index, timed over about `plan.seconds`, with as many queries each time."""

    def __init__(
        self, built: Built, effort: int, queries: Vectors, size: int, plan: Plan, pool: ThreadPoolExecutor
    ) -> None:
        self._built = built
        self._effort = effort
        self._size = size
        self._plan = plan
        self._pool = pool
        self._batches = [queries[start : start + size] for start in range(0, len(queries) - size + 1, size)] or [
            queries
        ]
        self._count = 0

    def rate(self) -> float:
        """Queries per second."""
        self._built.searcher.effort(self._effort)
        if not self._count:
            self._count = self._enough()
        threads = self._plan.threads
        shares = [list(islice(cycle(self._batches), first, self._count, threads)) for first in range(threads)]
        began = time.perf_counter()
        if threads == 1:
            self._ask(shares[0])
        else:
            for done in [self._pool.submit(self._ask, share) for share in shares]:
                done.result()
        seconds = time.perf_counter() - began
        return sum(len(batch) for share in shares for batch in share) / seconds

    def _ask(self, batches: Sequence[Vectors]) -> None:
        rows = self._built.searcher.rows
        for batch in batches:
            rows(batch, K)

    def _enough(self) -> int:
        """Batches of a pass, from how long a first few take; they also warm up."""
        few = self._batches[: max(1, 32 // self._size)]
        began = time.perf_counter()
        self._ask(few)
        each = (time.perf_counter() - began) / len(few)
        return max(_LEAST_BATCHES, math.ceil(self._plan.seconds / each)) * self._plan.threads


def write(report: Report, data: Dataset, curves: Sequence[Curve], plan: Plan) -> None:
    """A line for each build, each effort, and each rate at the target, the last beside the raw libraries'."""
    about: dict[str, Any] = {
        "data": data.name,
        "n": len(data.vectors),
        "dim": data.vectors.shape[1],
        "metric": data.metric.value,
    }
    timed = {
        "k": K,
        "queries": len(data.queries),
        "batch": BATCH,
        "threads": plan.threads,
        "repetitions": plan.repetitions,
    }
    baselines = {curve.built.choice.kind: curve for curve in curves if curve.built.choice.kind in BASELINES}
    for curve in curves:
        built = curve.built
        who = about | {"backend": built.choice.name, "params": built.spec_params}
        report.write(
            "build",
            **who,
            build_seconds=round(built.build_seconds, 2),
            kept=built.kept,
            file_bytes=built.file_bytes,
            vector_bytes=built.vector_bytes,
            bytes_per_point=round((built.file_bytes + built.vector_bytes) / len(data.vectors), 1),
        )
        for place, (effort, recall) in enumerate(curve.settled):
            report.write(
                "effort",
                **who,
                effort=effort,
                recall_at_10=round(recall, 4),
                **{f"{asked}_qps": spread(curve.rates[asked][place]) for asked in ASKED},
                **timed,
            )
        report.write(
            "rate_at_recall",
            **who,
            recall_at_10=plan.target,
            reached=curve.reach(plan.target),
            **{f"{asked}_qps": _rates(curve, plan, asked) for asked in ASKED},
            **{
                f"{asked}_ratio_to_{kind}": _ratios(curve, baseline, plan, asked)
                for kind, baseline in baselines.items()
                for asked in ASKED
            },
            **timed,
        )


def _rates(curve: Curve, plan: Plan, asked: Asked) -> dict[str, float] | None:
    rates = curve.rate_at(plan.target, asked)
    return spread(rates) if rates else None


def _ratios(curve: Curve, baseline: Curve, plan: Plan, asked: Asked) -> dict[str, float] | None:
    mine, theirs = curve.rate_at(plan.target, asked), baseline.rate_at(plan.target, asked)
    return ratios(mine, theirs) if mine and theirs else None
