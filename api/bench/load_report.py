"""The lines and the table of a load: medians and spread over the rounds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from api.bench.load import Measured
from api.bench.report import ratios, spread

Case = tuple[str, str, int | None]
"""Loop, workload, workers."""


def cases(found: Sequence[Measured]) -> dict[Case, list[Measured]]:
    """The rounds of each case, in the order of the rounds."""
    grouped: dict[Case, list[Measured]] = {}
    for one in found:
        grouped.setdefault((one.loop, one.workload, one.workers), []).append(one)
    return grouped


def lines(found: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """One dictionary for each case, and one for each further number of workers: its rate over the first one's."""
    grouped = cases(found)
    for (loop, workload, workers), rounds in grouped.items():
        values = _merged([one.values for one in rounds])
        ceiling = grouped.get(("ceiling", "/livez", workers))
        if loop == "closed" and ceiling:
            values["of_ceiling"] = ratios(_rates(rounds), _rates(ceiling))
        yield {"figure": loop, "workload": workload, "workers": workers, "repetitions": len(rounds), **values}
    for (loop, workload, workers), rounds in grouped.items():
        first = next(case for case in grouped if case[:2] == (loop, workload))
        if loop == "closed" and first[2] != workers:
            yield {
                "figure": "scaling",
                "workload": workload,
                "workers": workers,
                "over_workers": first[2],
                "per_second_ratio": ratios(_rates(rounds), _rates(grouped[first])),
            }


def table(found: Sequence[Measured]) -> Table:
    """The medians, for people: CPU us is the server's for each request, client the part of a core that it used."""
    shown = Table(box=None, pad_edge=False)
    for name in ("load", "workers", "req/s", "p50 ms", "p90", "p99", "max", "CPU us", "client", "recall", "failed"):
        shown.add_column(name, justify="left" if name in ("load", "failed") else "right", no_wrap=True)
    for (loop, workload, workers), rounds in cases(found).items():
        values = _merged([one.values for one in rounds])

        def median(name: str, form: str, values: dict[str, Any] = values) -> str:
            return format(values[name]["median"], form) if name in values else ""

        rate = median("per_second", ",.0f") + (f" of {median('rate', ',.0f')}" if loop == "open" else "")
        shown.add_row(
            f"{workload} {loop}",
            "" if workers is None else str(workers),
            rate,
            *(median(f"{name}_ms", ".2f") for name in ("p50", "p90", "p99", "max")),
            median("server_cpu_us", ",.0f"),
            median("client_cores_used", ".0%"),
            median("recall@10", ".3f"),
            ", ".join(f"{count} {what}" for what, count in values["failures"].items()),
        )
    return shown


def _rates(rounds: Sequence[Measured]) -> list[float]:
    return [one.values["per_second"] for one in rounds]


def _merged(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each value's spread; counts are added up, and what is nested is a median."""
    merged: dict[str, Any] = {}
    for name, first in rounds[0].items():
        values = [one[name] for one in rounds if name in one]
        if name == "requests":
            merged[name] = sum(values)
        elif name == "failures":
            merged[name] = dict(sum((Counter(one) for one in values), Counter()))
        elif isinstance(first, dict):
            merged[name] = _medians(values)
        else:
            merged[name] = spread(values)
    return merged


def _medians(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for one in values for name in one)
    found: dict[str, Any] = {}
    for name in names:
        given = [one[name] for one in values if name in one]
        found[name] = _medians(given) if isinstance(given[0], dict) else float(f"{statistics.median(given):.4g}")
    return found
