"""`vss bench filter` as a picture: for each shape of filter the time and the recall of each way of answering."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from api.bench.filter_cases import Case
from api.bench.filtered import AGAIN, BITMAP, HOT, NEW, Measured, ways_of
from vss.errors import Code, VssError

_COLORS = {NEW: "C0", AGAIN: "C1", HOT: "C2", BITMAP: "C3"}


def draw(path: Path, title: str, found: Sequence[tuple[Case, Measured]]) -> None:
    """Write a PNG: above, median time over that of raw FAISS without a filter; below, recall@10. VssError (STORAGE)."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    ways = ways_of(found[0][1])
    width = 0.8 / len(ways)
    for number, way in enumerate(ways):
        places = np.arange(len(found)) + (number - (len(ways) - 1) / 2) * width
        color = _COLORS.get(way, f"C{number + 4}")
        times = [measured.over(way) for _, measured in found]
        above.bar(places, times, width, label=way, color=color)
        below.bar(places, [measured.recall[way] for _, measured in found], width, color=color)
    above.set_yscale("log")
    above.set_ylabel("median time / raw FAISS without a filter")
    for height in (1, 2, 4):
        above.axhline(height, color="grey", linewidth=0.8, linestyle=":")
    above.legend(fontsize=9, ncols=len(ways), loc="upper left")
    below.axhline(0.95, color="grey", linewidth=0.8, linestyle=":")
    below.set_ylabel("recall@10")
    below.set_xticks(np.arange(len(found)), [case.name for case, _ in found], rotation=20, ha="right")
    figure.suptitle(title)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise VssError(Code.STORAGE, f"{path} cannot be written: {error.strerror}", hint="name another file") from error
