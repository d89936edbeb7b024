"""The recall/QPS curves as a picture: one line for each index, batches on the left, single queries on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from api.bench.dataset import Dataset
from api.bench.recall import ASKED, BATCH, LITTLE, Curve, Plan
from vss.errors import Code, VssError

_TITLES = {"batch": f"batches of {BATCH}", "single": "one query at a time"}
_MARKERS = "osD^vP*X<>hp"


def draw(path: Path, data: Dataset, curves: Sequence[Curve], plan: Plan) -> None:
    """Write a PNG: medians, bars from the least to the most of the rounds. VssError (STORAGE)."""
    figure = Figure(figsize=(14, 6.5), layout="constrained")
    panels = figure.subplots(1, len(ASKED), sharey=True, squeeze=False)[0]
    lowest = min((one.recall for curve in curves for one in curve.settled), default=0.0)
    worst = min((curve.settled[-1].recall for curve in curves), default=1.0)
    left = max(lowest, min(worst, LITTLE)) - 0.01
    for panel, asked in zip(panels, ASKED, strict=True):
        for number, curve in enumerate(curves):
            rates = np.asarray(curve.rates[asked])
            middle = np.median(rates, axis=1)
            panel.errorbar(
                [one.recall for one in curve.settled],
                middle,
                yerr=(middle - rates.min(axis=1), rates.max(axis=1) - middle),
                label=curve.built.choice.name,
                color=f"C{number % 10}",
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                linestyle="--" if curve.built.choice.kind.startswith("raw-") else "-",
                linewidth=1.5,
                capsize=2,
            )
        panel.axvline(plan.target, color="grey", linewidth=0.8, linestyle=":")
        panel.set_yscale("log")
        panel.set_xlim(left, 1.003)
        panel.set_xlabel("recall@10")
        panel.set_title(_TITLES[asked])
        panel.grid(visible=True, which="both", linewidth=0.3)
    panels[0].set_ylabel("queries per second (log scale)")
    panels[0].legend(fontsize=9, loc="lower left")
    threads = "one thread" if plan.threads == 1 else f"{plan.threads} threads"
    shape = f"{len(data.vectors):,} x {data.vectors.shape[1]}"
    figure.suptitle(
        f"{data.name}: {shape}, {data.metric.value}, {threads}, {len(data.queries):,} held-out queries, "
        f"medians of {plan.repetitions} interleaved rounds"
    )
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise VssError(Code.STORAGE, f"{path} cannot be written: {error.strerror}", hint="name another file") from error
