"""Latency by percentile as a picture: one line for each load, the tail stretched as it matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from api.bench.load import Measured
from api.bench.load_report import cases
from vss.errors import Code, VssError

_TICKS = (0.5, 0.9, 0.99, 0.999, 0.9999)


def draw(path: Path, found: Sequence[Measured]) -> None:
    """Write a PNG; the latencies of all rounds of a case are pooled. VssError (STORAGE)."""
    figure = Figure(figsize=(14, 6.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, loop in zip(panels, ("closed", "open"), strict=True):
        for (kind, workload, workers), rounds in cases(found).items():
            if kind != loop:
                continue
            pooled = np.sort(np.concatenate([one.latencies for one in rounds])) * 1e3
            # The tail of 1/n is the last there is: 0% has no place on a log scale.
            above = 1.0 - np.arange(len(pooled)) / len(pooled)
            panel.plot(above, pooled, label=workload if workers is None else f"{workload}, {workers} workers")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.invert_xaxis()
        panel.set_xticks([1 - one for one in _TICKS], [f"{one:.4%}".rstrip("0%").rstrip(".") + "%" for one in _TICKS])
        panel.set_xlabel("percentile")
        panel.set_title(f"{loop} loop")
        panel.grid(visible=True, which="both", linewidth=0.3)
    panels[0].set_ylabel("milliseconds (log scale)")
    panels[0].legend(fontsize=9)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise VssError(Code.STORAGE, f"{path} cannot be written: {error.strerror}", hint="name another file") from error
