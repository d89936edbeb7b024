"""What settings are unless somebody sets them. Without NumPy: a supervisor that reads settings starts in no time."""

from __future__ import annotations

MAX_UNINDEXED = 200_000
"""Points of a collection that wait for an index, past which writes are refused. Every query scans them all: so many
take 20 ms at 128 dimensions and 56 ms at 384, one thread, on the machine of the benchmarks."""

MIN_RECALL = 0.90
"""Recall@10 that some effort has to reach before an index is served."""

KEEP = 3
"""Generations that stay: the current one, and those before it that were current last."""

BUILD_SHARE = 0.75
"""Part of the time that a build of the worker works while a server serves."""
