"""What one load says: rates, percentiles of latency, errors, CPU for each request."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.bench.http_client import UNREADABLE
from api.bench.load_loops import LOST, UNFINISHED, Outcome, Plan

PERCENTILES = (50, 90, 99)

_SAID = {UNREADABLE: "unreadable", LOST: "connection lost", UNFINISHED: "unfinished"}


def percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    """p50, p90, p99 and the most, in milliseconds: the least latency that so many percent do not exceed.

    NaN when there are none.
    """
    names = [*(f"p{one}_ms" for one in PERCENTILES), "max_ms"]
    if not len(seconds):
        return dict.fromkeys(names, float("nan"))
    found = np.percentile(seconds, [*PERCENTILES, 100], method="inverted_cdf") * 1e3
    return dict(zip(names, found.tolist(), strict=True))


def latencies(outcome: Outcome) -> NDArray[np.float64]:
    """Seconds of the requests that were answered with 2xx; one without an answer counts with the time it waited."""
    statuses = np.frombuffer(outcome.statuses, np.uint16)
    found: NDArray[np.float64] = np.frombuffer(outcome.latencies, np.float64)[_timed(statuses)]
    return found


def figures(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """The values of one load.

    requests, per_second: answers with 2xx; of the open loop those that came while requests did
    p50_ms .. max_ms:     as `percentiles`; operations: the same of each, where there are several
    failures:             how often each other status came, or why none did
    server_cpu_us:        microseconds of user and system time for each answer; server_cpu_us_by_role
    client_cores_used:    CPU seconds of the client a second: near 1.0 the client was the bottleneck
    late_p99_ms:          of the open loop: how late the client was itself
    """
    statuses = np.frombuffer(outcome.statuses, np.uint16)
    taken = np.frombuffer(outcome.latencies, np.float64)
    operations = np.frombuffer(outcome.operations, np.uint8)
    answered = _answered(statuses)
    counted, seconds = answered, outcome.seconds
    if plan.rate is not None:
        seconds = _length(plan, outcome)
        counted = answered & (np.frombuffer(outcome.due, np.float64) + taken <= seconds)
    timed = _timed(statuses)
    failed = Counter(statuses[~answered].tolist())
    found: dict[str, Any] = {
        "requests": int(answered.sum()),
        "seconds": seconds,
        "per_second": float(counted.sum() / seconds),
        **percentiles(latencies(outcome)),
        "failures": {_SAID.get(status, str(status)): count for status, count in sorted(failed.items())},
        "client_cores_used": outcome.client_cpu / outcome.seconds,
    }
    if len(plan.operations) > 1:
        found["operations"] = {
            one.name: {"requests": int((mine := timed & (operations == place)).sum()), **percentiles(taken[mine])}
            for place, one in enumerate(plan.operations)
        }
    if outcome.server_cpu and answered.any():
        each = {role: used / int(answered.sum()) * 1e6 for role, used in outcome.server_cpu.items()}
        found |= {"server_cpu_us": sum(each.values()), "server_cpu_us_by_role": each}
        found["server_cores_used"] = sum(outcome.server_cpu.values()) / outcome.seconds
    if outcome.late:
        found["late_p99_ms"] = percentiles(np.frombuffer(outcome.late, np.float64))["p99_ms"]
    return found


def _answered(statuses: NDArray[np.uint16]) -> NDArray[np.bool_]:
    return (statuses >= 200) & (statuses < 300)


def _timed(statuses: NDArray[np.uint16]) -> NDArray[np.bool_]:
    timed: NDArray[np.bool_] = _answered(statuses) | (statuses == UNFINISHED)
    return timed


def _length(plan: Plan, outcome: Outcome) -> float:
    """Seconds in which requests of the open loop were due; shorter than asked for when there were as many as may be."""
    due = np.frombuffer(outcome.due, np.float64)
    return float(due.max()) if len(due) >= plan.most else plan.seconds
