"""Which kind of index suits: `auto` so many points under this metric, `scan` what has none yet."""

from __future__ import annotations

from vss.types import Metric

FLAT_BELOW = 5_000
"""Points below which `flat` is chosen. Here it takes 0.11 ms a query against the graph's 0.06 (384-d Cosine, one
thread), is exact and needs no build; at 20,000 points it takes 0.97 ms against 0.17."""

CODED_FROM = 256
"""Points from which on codes are worth their making for a scan: 900 of 128 components take .17 ms as floats, and 10,000
.10 ms as codes."""


def choose(count: int, metric: Metric, *, native: bool) -> str:
    """The kind for `count` points: `flat` for few of them or under Manhattan, else a graph.

    native: whether the graph may be `native`; otherwise it is `faiss_hnsw`
    """
    if count < FLAT_BELOW or metric is Metric.MANHATTAN:
        return "flat"
    return "native" if native else "faiss_hnsw"


def quickest(count: int, metric: Metric, *, native: bool) -> str:
    """The kind for `count` points that is made at once and then scans the fastest. native: as in `choose`."""
    return "coded" if native and count >= CODED_FROM and metric is not Metric.MANHATTAN else "flat"
